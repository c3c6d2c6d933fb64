"""Stages of one run that train one after the other, each with a Lightning Trainer of its own.

The steps of their curves are counted on, so that metrics.csv and W&B have one axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import Logger
from torch.utils.data import DataLoader

from configs.schema import TrainerOptions


@dataclass
class Stages:
    """Where the stages of a run train.

    Attributes:
        trainer: what they run on, how precisely, and how often curves are logged.
        device: what everything outside of `fit` has to be put on.
        loggers: of the run.
        callbacks: of every stage.
        done: optimiser steps of the stages so far, those of the run that is gone on with included.
    """

    trainer: TrainerOptions
    device: torch.device
    loggers: Sequence[Logger] = ()
    callbacks: Sequence[Callback] = ()
    done: int = 0

    def fit(self, module: LightningModule, batches: Iterable[Any], steps: int) -> None:
        """Trains a module in place; it is on `device` and in evaluation mode afterwards.

        Args:
            module: logs what it likes under names that begin with its stage, `tower/loss`; a
                training that has come far enough sets `self.trainer.should_stop`.
            batches: at least `steps` of them, or as many again and again.
            steps: optimiser steps, at most.
        """
        trainer = Trainer(
            accelerator=self.trainer.accelerator,
            devices=self.trainer.devices,
            precision=self.trainer.precision,
            deterministic=self.trainer.deterministic,
            max_steps=steps,
            logger=[CountedOn(logger, self.done) for logger in self.loggers] or False,
            callbacks=list(self.callbacks),
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=self.trainer.enable_progress_bar,
            log_every_n_steps=self.trainer.log_every_n_steps,
        )
        trainer.fit(module, DataLoader(batches, batch_size=None, num_workers=0))  # type: ignore[arg-type]
        self.done += trainer.global_step
        module.to(self.device).eval()  # Lightning leaves it on the CPU


class CountedOn(Logger):
    """A logger of the run, for one stage: its steps begin where the stage before has ended.

    Args:
        logger: gets everything.
        before: steps of the stages before.
    """

    def __init__(self, logger: Logger, before: int) -> None:
        super().__init__()
        self.logger, self.before = logger, before

    @property
    def name(self) -> str | None:
        """The logger's."""
        return self.logger.name

    @property
    def version(self) -> int | str | None:
        """The logger's."""
        return self.logger.version

    @property
    def save_dir(self) -> str | None:
        """The logger's."""
        return self.logger.save_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Logs them with the step counted on."""
        self.logger.log_metrics(dict(metrics), None if step is None else step + self.before)

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """The run's settings are in config.yaml, and a stage's are a part of them."""

    def save(self) -> None:
        """Writes what has been logged."""
        self.logger.save()
