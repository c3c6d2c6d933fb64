"""For trying things: a few batches of everything (`trainer.fast_dev_run`), and profilers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
from lightning.pytorch.callbacks import Callback
from rich.console import Console

from configs.schema import EditingConfig
from runner.assembly import make_trainer


def try_out(
    cfg: EditingConfig,
    run: Callable[[L.Trainer], object],
    what: str,
    callbacks: Sequence[Callback],
    **arguments: object,
) -> None:
    """Runs a few batches of everything; the output folder is not touched.

    Args:
        cfg: the configuration.
        run: what the trainer is to do.
        what: its name, for the line at the end.
        callbacks: besides the progress bar.
        **arguments: as for `make_trainer`.
    """
    with TemporaryDirectory() as root:
        trainer = make_trainer(
            cfg.trainer,
            loggers=(),
            callbacks=callbacks,
            root=Path(root),
            fast_dev_run=cfg.trainer.fast_dev_run,
            enable_checkpointing=False,
            **arguments,
        )
        run(trainer)
    if trainer.is_global_zero:
        batches = int(cfg.trainer.fast_dev_run)
        of_each = "a batch" if batches == 1 else f"{batches} batches"
        Console().print(
            f"trainer.fast_dev_run: {of_each} of the {what} went through. No checkpoint and no "
            "result was written.",
            soft_wrap=True,
        )
