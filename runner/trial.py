"""For trying things: a few batches of everything (`trainer.fast_dev_run`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
from lightning.pytorch.callbacks import Callback

from configs.schema import EditingConfig
from datamodules.datamodule import EditDataModule
from results.screen import screen
from runner.assembly import make_trainer


def try_out(
    cfg: EditingConfig,
    module: L.LightningModule,
    data: EditDataModule,
    callbacks: Sequence[Callback],
    **arguments: object,
) -> None:
    """Trains or evaluates a few batches; the output folder is not touched.

    Args:
        cfg: the configuration.
        module: what the command runs.
        data: set up.
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
        if cfg.command == "train":
            trainer.fit(module, datamodule=data)
        else:
            trainer.test(module, datamodule=data, verbose=False)
    if trainer.is_global_zero:
        batches = int(cfg.trainer.fast_dev_run)
        of_each = "a batch" if batches == 1 else f"{batches} batches"
        what = "training and validation" if cfg.command == "train" else "evaluation"
        screen().print(
            f"trainer.fast_dev_run: {of_each} of {what} went through. No checkpoint and no result "
            "was written.",
            soft_wrap=True,
        )
