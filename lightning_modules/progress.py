"""The progress bar of all commands: what is done, what is left, and the losses that matter."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar


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
