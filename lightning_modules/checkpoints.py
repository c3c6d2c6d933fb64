"""The files of a training, last.ckpt and best.ckpt: when they are written, and going on from them.

    last.ckpt   every `save_every` optimiser steps, before and after each validation, on a signal,
                and at the end
    best.ckpt   after a validation that improved on all before it

A training that is killed at any moment and started again from last.ckpt does what it would have
done: the loops' state in a file is always that of the end of an optimiser step, and the file says
whether the validation that is due there is done. Curves are on disk before a file is in its place.
"""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any, Protocol

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from errors import DataError, Stopped
from results.files import BEST, LAST, replacing

log = logging.getLogger(__name__)

MONITOR = "val/loss"
PROGRESS = "progress"  # key in a checkpoint: processes, and whether a validation is still due
_LOOP = "epoch_loop.batch_progress"
_VALIDATION_LOOP = "epoch_loop.val_loop.batch_progress"


class StopRequests(Protocol):
    """What a training has to know of signals (`configs/signals.py`)."""

    received: int
    deferred: bool

    def held(self) -> AbstractContextManager[None]:
        """Nothing is raised within the block."""


class SafeFiles(TorchCheckpointIO):
    """Writes a checkpoint beside its place and renames it; a full disk is noted and not raised.

    Only the first process writes, and the others wait for it: an error would leave them waiting.

    Attributes:
        failure: why the last save failed; None where the file is in its place.
    """

    def __init__(self) -> None:
        self.failure: str | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Saves as a stream, so that the file is never whole in memory."""
        del storage_options
        self.failure = None
        try:
            with replacing(Path(path)) as temporary, temporary.open("wb") as file:
                _stream(checkpoint, file)
        except OSError as error:
            self.failure = error.strerror or str(error)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Reads the file of that name; Lightning takes `http` and `::` in a path for an address."""
        content: dict[str, Any] = torch.load(
            path, map_location=map_location, weights_only=weights_only
        )
        return content


class Checkpoints(Checkpoint):
    """Writes the files and ends the training on a signal.

    Args:
        folder: of the files.
        save_every: optimiser steps from one last.ckpt to the next.
        stop: the signals of this process.
        files: writes them.

    Attributes:
        best: smallest validation loss so far.
    """

    def __init__(
        self,
        folder: Path,
        *,
        save_every: int,
        stop: StopRequests,
        files: SafeFiles | None = None,
    ) -> None:
        self._folder, self._every, self._stop = folder, save_every, stop
        self._files = files or SafeFiles()
        self.best: float | None = None
        self._loops: dict[str, Any] | None = None  # at the end of the last optimiser step
        self._step = self._saved = self._checked_step = -1
        self._validated = True

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Has the trainer write as this callback does."""
        del pl_module, stage
        trainer.strategy.checkpoint_io = self._files

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """From here on a signal waits for the end of a step."""
        del pl_module
        self._step = self._saved = self._checked_step = trainer.global_step
        missing = self.best is not None and not (self._folder / BEST).is_file()
        if trainer.strategy.broadcast(missing):
            log.warning("%s is not there: the best from here on is kept", self._folder / BEST)
            self.best = None
        if _out_of_patience(trainer):  # Lightning does not remember that it stopped
            trainer.should_stop = True
        self._stop.deferred = True

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        """Between two steps: saves where it is time, and stops where a signal came."""
        if self._checked_step == self._step:
            return
        self._checked_step = self._step
        number = self._agreed(trainer)
        is_time = self._step % self._every == 0 or self._step == trainer.max_steps - 1
        if self._saved != self._step and (number or is_time):
            self._save_last(trainer)
        if number:
            raise self._stopped(number)

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Remembers where the loops stand at the end of a step."""
        if trainer.global_step == self._step:
            return
        self._step, self._loops = trainer.global_step, trainer.fit_loop.state_dict()
        # Lightning does not count the beginning of an epoch where it goes on after another's end,
        # and counts the batches of a validation or not.
        for counts in self._loops["epoch_progress"].values():
            counts["ready"] = counts["started"] = counts["processed"] + 1
        judged = self._loops[_VALIDATION_LOOP]
        for counts in (judged["total"], judged["current"]):
            counts |= dict.fromkeys(counts, 0)
        judged["is_last_batch"] = False

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Saves what is to be validated; from here on a signal is acted on at once."""
        del pl_module
        if trainer.sanity_checking:
            return
        # Lightning does not validate any more where a training continues after its last step.
        if self._step < trainer.max_steps:
            self._save_last(trainer, validated=False)
        self._stop.deferred = False
        if number := self._agreed(trainer):
            raise self._stopped(number)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keeps the best; last.ckpt follows, since a best one that is not there is made again."""
        del pl_module
        if trainer.sanity_checking:
            return
        self._stop.deferred = True
        before, loss = self.best, float(trainer.callback_metrics.get(MONITOR, math.nan))
        is_better = loss < (math.inf if before is None else before)
        if trainer.strategy.reduce_boolean_decision(is_better):
            self.best = loss
            if not self._save(trainer, BEST):
                self.best = before
        self._save_last(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last save must succeed.

        Raises:
            DataError: it did not.
        """
        del pl_module
        if self._saved != self._step:
            self._save_last(trainer)
        if self._files.failure is not None:
            raise DataError(
                f"{self._folder / LAST} cannot be written ({self._files.failure}), so the "
                f"end of the training, step {self._step}, is lost. Make room and start the same "
                f"command with resume=true: it goes on {self._from()}."
            )
        self._stop.deferred = False
        if number := self._agreed(trainer):
            raise self._stopped(number)

    def on_exception(self, *_: object) -> None:
        """What follows an error waits for nothing."""
        self._stop.deferred = False

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the loops back to the end of the step, and says what was done since."""
        del pl_module
        if self._loops is not None:
            checkpoint["loops"]["fit_loop"] = self._loops
        checkpoint[PROGRESS] = {"validated": self._validated, "processes": trainer.world_size}

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the loops where Lightning goes on rightly.

        That is the end of a step with its validation done; or, where the validation is still to
        come, the middle of one that has judged nothing yet.
        """
        del pl_module
        loops = checkpoint["loops"]["fit_loop"]
        for counts in (loops[_LOOP]["total"], loops[_LOOP]["current"]):
            counts["completed"] = counts["processed"] - 1
        self._loops = copy.deepcopy(loops)
        is_due = loops[_LOOP]["total"]["ready"] % int(trainer.val_check_interval) == 0
        if is_due and not is_validated(checkpoint):
            for counts in (loops[_LOOP]["total"], loops[_LOOP]["current"]):
                counts["completed"] = counts["processed"]
            for counts in (loops[_VALIDATION_LOOP]["total"], loops[_VALIDATION_LOOP]["current"]):
                counts |= {"ready": 1, "started": 1, "processed": 0, "completed": 0}

    def state_dict(self) -> dict[str, Any]:
        """The best loss; where its file lies is not part of it."""
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on comparing with it."""
        self.best = state_dict["best"]

    def _agreed(self, trainer: L.Trainer) -> int:
        """A signal that any of the processes got; 0 where none did."""
        if trainer.world_size == 1:
            return self._stop.received
        number = torch.tensor(self._stop.received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(number, reduce_op="max"))

    def _save_last(self, trainer: L.Trainer, *, validated: bool = True) -> None:
        if self._save(trainer, LAST, validated=validated):
            self._saved = self._step

    def _save(self, trainer: L.Trainer, name: str, *, validated: bool = True) -> bool:
        """Writes one file, after the curves; whether it is in its place."""
        for logger in trainer.loggers:
            logger.save()
        self._validated, failed_before = validated, self._files.failure is not None
        with self._stop.held():
            trainer.save_checkpoint(self._folder / name)
        # The first process writes; what all do next, such as to save again, depends on it.
        failure = self._files.failure = trainer.strategy.broadcast(self._files.failure)
        if failure is not None and not failed_before:
            log.warning(
                "%s cannot be written (%s): training goes on and tries again; until then a killed "
                "run goes on %s", self._folder / name, failure, self._from(),
            )  # fmt: skip
        if failure is None and failed_before:
            log.warning("%s is written again, at step %d", self._folder / name, self._step)
        return failure is None

    def _stopped(self, number: int) -> Stopped:
        if self._saved == self._step:
            return Stopped(number, f"after step {self._step}")
        return Stopped(number, f"after step {self._step}, and the run goes on {self._from()}")

    def _from(self) -> str:
        return "from its beginning" if self._saved < 1 else f"from step {self._saved}"


def continue_from(checkpoint: dict[str, Any], trainer: L.Trainer) -> None:
    """Leaves the states of callbacks that this run has; an earlier version saved with Lightning's.

    Called where the module gets the checkpoint, before the callbacks do.
    """
    stored = checkpoint["callbacks"]
    known = {callback.state_key for callback in trainer.callbacks}  # type: ignore[attr-defined]
    best = best_loss(checkpoint)
    for key in stored.keys() - known:
        del stored[key]
    stored[Checkpoints.__qualname__] = {"best": best}


def best_loss(checkpoint: Mapping[str, Any]) -> float | None:
    """The smallest validation loss so far; earlier versions saved it with Lightning's callback."""
    states: Mapping[str, Any] = checkpoint.get("callbacks", {})
    if Checkpoints.__qualname__ in states:
        best = states[Checkpoints.__qualname__]["best"]
    else:
        earlier = [s for key, s in states.items() if key.startswith("ModelCheckpoint")]
        best = earlier[0]["best_model_score"] if earlier else None
    return None if best is None else float(best)


def is_validated(checkpoint: Mapping[str, Any]) -> bool:
    """Whether nothing that is due at a checkpoint's step is left to do."""
    return bool(checkpoint.get(PROGRESS, {}).get("validated", True))


def _out_of_patience(trainer: L.Trainer) -> bool:
    return any(stop.wait_count >= stop.patience for stop in trainer.early_stopping_callbacks)


def _stream(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    """torch.save, which hides the error of a full disk behind one of its own.

    Raises:
        OSError: the disk is full, say.
    """
    noted = _Noted(file)
    try:
        torch.save(checkpoint, noted)  # type: ignore[arg-type]
    except RuntimeError:
        if noted.error is None:
            raise
    if noted.error is not None:
        raise noted.error


class _Noted:
    """A file that remembers the first error of its writes and writes no more after it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes, unless that failed already."""
        if self.error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)

    def flush(self) -> None:
        self._file.flush()
