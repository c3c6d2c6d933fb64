"""The progress bar of all commands: what is done, what is left, and the losses that matter."""

from __future__ import annotations

import logging
import warnings

import lightning as L
from lightning.pytorch.callbacks import RichProgressBar
from transformers.utils import logging as transformers_logging

_CHATTY = ("lightning", "lightning.pytorch", "lightning.fabric", "fontTools", "matplotlib")


def quiet_libraries() -> None:
    """Hushes lines that tell a user of this project nothing; warnings stay.

    These are accelerators that are not there, advertisements, fonts, bars of half a second, and a
    deprecation inside Lightning itself.
    """
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    transformers_logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message=r".*LeafSpec", module=r"lightning\..*")


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
