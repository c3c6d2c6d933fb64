"""Callbacks of every command: the progress bar, and what a checkpoint says besides weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar

from editors.checkpoint import CONFIG, SUBJECTS


class ProgressBar(RichProgressBar):
    """Lightning's rich bar without version numbers and without a meaningless number of epochs."""

    def __init__(self) -> None:
        super().__init__(leave=False)

    def get_metrics(
        self, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """The losses alone."""
        metrics = super().get_metrics(trainer, pl_module)
        return {
            "step": f"{trainer.global_step}/{trainer.max_steps}",
            **{name: value for name, value in metrics.items() if name != "v_num"},
        }

    def _get_train_description(self, current_epoch: int) -> str:
        return f"Training, epoch {current_epoch}"


class StoreConfig(Callback):
    """Puts the configuration and the subjects trained on into every checkpoint, as plain Python."""

    def __init__(self, plain: dict[str, Any], subjects: list[str]) -> None:
        self._plain, self._subjects = plain, subjects

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds both."""
        del trainer, pl_module
        checkpoint[CONFIG], checkpoint[SUBJECTS] = self._plain, self._subjects


class SaveLastStep(Callback):
    """Writes last.ckpt after the last optimiser step, validated or not.

    It does so at the end of the batch, where Lightning expects a checkpoint to come from: one
    that is written after the training ends makes a continued run count a step twice.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        """Saves once the steps are done."""
        if trainer.global_step >= trainer.max_steps:
            trainer.save_checkpoint(self._path)
