"""Where curves go: `metrics.csv` beside the results, and Weights & Biases.

W&B is online only where the user is logged in; everywhere else its run lies in the output folder
until `wandb sync`. Without the package, or with a full disk, the run itself goes on.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import logging
import netrc
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
from lightning.pytorch.loggers import CSVLogger, Logger, WandbLogger
from lightning.pytorch.loggers.csv_logs import ExperimentWriter
from lightning.pytorch.loggers.logger import rank_zero_experiment

from configs.schema import RunConfig

log = logging.getLogger(__name__)
_WANDB_HOST = "api.wandb.ai"


class CurveFile(CSVLogger):
    """`metrics.csv` in the output folder itself, continued when training continues.

    Args:
        folder: the output folder.
        continue_after: keep an earlier run's lines up to this optimiser step; None starts anew.
    """

    def __init__(self, folder: Path, continue_after: int | None = None) -> None:
        super().__init__(str(folder), name="", version="")
        self._kept: list[dict[str, Any]] = []
        file = folder / ExperimentWriter.NAME_METRICS_FILE
        if continue_after is not None and file.is_file():
            with file.open(newline="") as lines:
                self._kept = [
                    line for line in csv.DictReader(lines) if int(line["step"]) < continue_after
                ]

    def log_hyperparams(self, params: Any = None) -> None:
        """Nothing: config.yaml has them."""

    @property
    @rank_zero_experiment
    def experiment(self) -> ExperimentWriter:
        """The writer, with the kept lines in front."""
        first = self._experiment is None
        with warnings.catch_warnings():  # the folder also holds config.yaml and checkpoints
            warnings.filterwarnings("ignore", message="Experiment logs directory")
            writer = super().experiment
        if first:
            writer.metrics = [*self._kept, *writer.metrics]
        return writer


@contextmanager
def open_loggers(
    cfg: RunConfig,
    folder: Path,
    *,
    name: str,
    curves: bool = True,
    continue_after: int | None = None,
) -> Iterator[list[Logger]]:
    """The loggers of a run, closed at the end of the block, so that the next run gets its own.

    Args:
        cfg: what the user asked for; shown with the W&B run, and its model and data name the
            group that runs which belong together share.
        folder: the output folder.
        name: of the W&B run.
        curves: whether the run has curves for metrics.csv.
        continue_after: optimiser step that an earlier run in this folder is continued from.

    Yields:
        CSV and W&B, as asked for and available.
    """
    loggers: list[Logger] = []
    if cfg.logger.csv and curves:
        loggers.append(CurveFile(folder, continue_after))
    if cfg.logger.wandb != "off":
        wandb = _wandb_logger(cfg, folder, name)
        if wandb is not None:
            loggers.append(wandb)
    try:
        yield loggers
    finally:
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                logger.experiment.finish()


def log_result_table(loggers: list[Logger], key: str, table: pd.DataFrame) -> None:
    """Sends a table to W&B where it is on."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_table(key, dataframe=table)


def log_pictures(loggers: list[Logger], key: str, files: list[Path]) -> None:
    """Sends picture files to W&B where it is on."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(key, [str(file) for file in files])


def _wandb_logger(cfg: RunConfig, folder: Path, name: str) -> WandbLogger | None:
    options = cfg.logger
    if importlib.util.find_spec("wandb") is None:
        log.warning("wandb is not installed: curves go to metrics.csv only (pip install wandb)")
        return None
    offline = options.wandb == "offline" or (options.wandb == "auto" and not _logged_in())
    os.environ.setdefault("WANDB_SILENT", "true")
    try:
        logger = WandbLogger(
            project=options.project,
            entity=options.entity,
            name=name,
            group=f"{cfg.model.name}-{cfg.data.name}",
            save_dir=str(folder),
            offline=offline,
            # The same folder is the same run, so a continued training continues its curves.
            id=hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:12],
            resume="allow",
            config=cfg.plain(),
            settings=import_module("wandb").Settings(silent=True),
        )
        # Lightning passes an option that W&B dropped, and W&B then warns in every run.
        logger._wandb_init.pop("anonymous", None)
        _ = logger.experiment
    except Exception as error:  # whatever fails in it, a logger must not end a run
        log.warning("W&B could not start (%s): curves go to metrics.csv only", error)
        return None
    return logger


def _logged_in() -> bool:
    if os.environ.get("WANDB_MODE") in ("offline", "disabled"):
        return False
    if os.environ.get("WANDB_API_KEY"):
        return True
    try:
        return netrc.netrc().authenticators(_WANDB_HOST) is not None
    except (OSError, netrc.NetrcParseError):
        return False
