"""Trains an editor on single edits of a frozen base model: MEND's networks, or SERAC's.

`python train.py --help` shows examples and options.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from configs.launch import run_command
from errors import DataError

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import TrainConfig
    from runner.start import Placement

log = logging.getLogger(__name__)


def main(cfg: TrainConfig) -> None:
    """Trains one editor and names its best checkpoint."""
    from runner.start import start

    with start(cfg, parallel=True) as placement:
        train(placement)


def train(placement: Placement[TrainConfig]) -> None:
    """Trains one editor, in each of its processes."""
    from rich.console import Console

    from configs.rundir import output_folder
    from loggers.run_loggers import log_pictures, open_loggers
    from runner import assembly, training

    cfg = placement.cfg
    options, scenario = training.trained_options(cfg), training.scenario_of(cfg)
    parts = assembly.open_parts(
        cfg,
        {"train": scenario, "val": scenario},
        placement.device,
        batch_size=options.batch_size,
        accumulate=options.accumulate,
    )
    parts.data.setup("fit")
    module = training.make_module(cfg, parts.model, parts.inputs)

    name = f"{cfg.editor.name} {cfg.model.name} training"
    steps, validated = training.steps_done(cfg.ckpt)
    with (
        output_folder(cfg) as folder,
        open_loggers(cfg, folder, name=name, continue_after=steps, validated=validated) as loggers,
    ):
        trainer = assembly.make_trainer(
            cfg.trainer,
            loggers=loggers,
            callbacks=[
                *training.make_callbacks(cfg, folder, parts.data, logged=bool(loggers)),
                *placement.callbacks,
            ],
            root=folder,
            **training.trainer_arguments(cfg, parts.data, placement.processes),
        )
        trainer.fit(module, datamodule=parts.data, ckpt_path=cfg.ckpt, weights_only=True)
        if trainer.is_global_zero and cfg.logger.csv:
            log_pictures(loggers, "curves", draw_curves(folder))
    if trainer.is_global_zero:
        for name in ("best", "last"):
            Console().print(f"{name} {folder / 'checkpoints' / name}.ckpt", soft_wrap=True)


def draw_curves(folder: Path) -> list[Path]:
    """Draws the curves of a training; a full disk costs the picture and not the training."""
    from reporting.figures import training_curves

    try:
        return [f for f in training_curves(folder, folder / "curves") if f.suffix == ".png"]
    except (DataError, OSError) as error:
        log.warning("the curves of %s are not drawn (%s)", folder, error)
        return []


if __name__ == "__main__":
    run_command("train", main)
