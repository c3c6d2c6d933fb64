"""`trainer.max_time`: a training that ends when its time is up, in good order."""

from __future__ import annotations

import time
from datetime import timedelta

import lightning as L
from lightning.pytorch.callbacks import Callback

from errors import TIME_IS_UP
from lightning_modules.checkpoints import StopRequests


class StopInTime(Callback):
    """Asks for the end of the training as a signal would: after the step, with last.ckpt written.

    Lightning's own timer would validate once more where no validation is due, and remembers the
    time over restarts; this one counts from each start.

    Args:
        duration: "days:hours:minutes:seconds".
        stop: the signals of this process.
    """

    def __init__(self, duration: str, stop: StopRequests) -> None:
        days, hours, minutes, seconds = map(int, duration.split(":"))
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        self._seconds, self._stop, self._until = length.total_seconds(), stop, float("inf")
        self._checked_step = -1

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Counts the time from here on."""
        del pl_module
        self._until, self._checked_step = time.monotonic() + self._seconds, trainer.global_step

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        """Asks between two steps, where `Checkpoints`, which comes later, stops at once."""
        if self._checked_step == trainer.global_step:
            return
        self._checked_step = trainer.global_step
        if time.monotonic() >= self._until and not self._stop.received:
            self._stop.received = TIME_IS_UP
