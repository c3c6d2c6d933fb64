"""Where curves go: `metrics.csv` beside the results, and Weights & Biases.

W&B is offline unless the user asks for more: its run lies in the output folder until `wandb sync`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from lightning.pytorch.loggers import Logger

from configs.schema import RunConfig
from loggers.curve_file import CurveFile
from loggers.wandb_run import GuardedWandb, open_wandb


@contextmanager
def open_loggers(
    cfg: RunConfig,
    folder: Path,
    *,
    name: str,
    curves: bool = True,
    continue_after: int | None = None,
    validated: bool = True,
) -> Iterator[list[Logger]]:
    """The loggers of a run, closed at the end of the block, so that the next run gets its own.

    Args:
        cfg: what the user asked for.
        folder: the output folder.
        name: of the W&B run; the job of a sweep adds its own words.
        curves: whether the run has curves for metrics.csv.
        continue_after: optimiser step that an earlier run in this folder is continued from.
        validated: whether a validation after that step is done.

    Yields:
        CSV and W&B, as asked for and available.
    """
    loggers: list[Logger] = []
    if cfg.logger.csv and curves:
        loggers.append(CurveFile(folder, continue_after, validated=validated))
    with open_wandb(cfg, folder, cfg.named(name)) as wandb:
        yield loggers if wandb is None else [*loggers, wandb]


def log_pictures(loggers: Sequence[Logger], key: str, files: Sequence[Path]) -> None:
    """Sends picture files to W&B where it is on."""
    for logger in loggers:
        if isinstance(logger, GuardedWandb):
            logger.log_image(key, [str(file) for file in files])
