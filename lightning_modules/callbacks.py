"""Callbacks: the progress bar, what a checkpoint says besides weights, rates typed anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, RichProgressBar
from torch.optim.lr_scheduler import LambdaLR

from editors.checkpoint import CONFIG, SUBJECTS, TERMS, TRACES


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
    """Puts the configuration and what was trained on into every checkpoint, as plain Python.

    Args:
        plain: the configuration.
        subjects: of the training and validation edits.
        traces: by what else those are known again, `datamodules.overlap.Traces.stored`.
        terms: their source, origin and licence, `datamodules.source.RecordSource.terms`.
    """

    def __init__(
        self,
        plain: dict[str, Any],
        subjects: list[str],
        traces: dict[str, Any],
        terms: dict[str, str],
    ) -> None:
        self._content = {CONFIG: plain, SUBJECTS: subjects, TRACES: traces, TERMS: terms}

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds them."""
        del trainer, pl_module
        checkpoint.update(self._content)


class TypedRates(Callback):
    """What was typed for a training that goes on takes the place of what its checkpoint holds.

    Lightning restores the rates of an optimiser and its schedule, and the patience of
    EarlyStopping, as they were.
    """

    def __init__(self, patience: int | None) -> None:
        self._patience = patience
        self._rates: list[list[float]] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Reads the rates of the options, before the checkpoint's take their place."""
        del pl_module
        self._rates = [
            [group.get("initial_lr", group["lr"]) for group in optimizer.param_groups]
            for optimizer in trainer.optimizers
        ]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Sets them, each at its place in the schedule."""
        del pl_module
        for optimizer, rates in zip(trainer.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for config in trainer.lr_scheduler_configs:
            if isinstance(scheduler := config.scheduler, LambdaLR):
                _set_base_rates(
                    scheduler, self._rates[trainer.optimizers.index(scheduler.optimizer)]
                )
        if self._patience is not None:
            for stopping in trainer.early_stopping_callbacks:
                stopping.patience = self._patience


def _set_base_rates(scheduler: LambdaLR, rates: Sequence[float]) -> None:
    scheduler.base_lrs = list(rates)
    groups = scheduler.optimizer.param_groups
    for group, rate, share in zip(groups, rates, scheduler.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * share(scheduler.last_epoch)
