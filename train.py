"""Trains an editor on edits of a frozen base model: the networks of MEND, MALMEN or SERAC.

`python train.py --help` shows examples and options.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from configs.launch import run_command
from errors import DataError
from results.files import BEST, CHECKPOINTS, LAST

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import TrainConfig
    from runner.start import Placement

log = logging.getLogger(__name__)


def main(cfg: TrainConfig) -> float | None:
    """Trains one editor and names its best checkpoint; returns its validation loss."""
    from runner.start import start

    with start(cfg, parallel=True) as placement:
        return train(placement)


def train(placement: Placement[TrainConfig]) -> float | None:
    """Trains one editor, in each of its processes; the first one returns the score."""
    from configs.rundir import output_folder
    from editors.hub import checkpoint_file
    from loggers.curve_file import lacks_picture
    from loggers.run_loggers import log_pictures, open_loggers
    from runner import assembly, continuing, training
    from runner.batch_size import settle_batch_size
    from runner.callbacks import user_callbacks
    from runner.lengths import check_lengths
    from runner.trial import try_out

    ckpt = placement.first_decides(continuing.continued(placement.cfg))
    cfg = placement.cfg.model_copy(update={"ckpt": ckpt})
    continuing.check_continued(cfg, placement.processes)
    if ckpt is not None and (reason := continuing.finished(cfg, placement.processes)):
        if placement.rank:
            return None
        if cfg.logger.csv and lacks_picture(Path(cfg.output_dir)):  # killed after the last step
            with output_folder(placement.cfg) as folder:
                draw_curves(folder)
        return show(checkpoint_file(ckpt).parent, f"Finished already: {reason}.")
    callbacks = [*placement.callbacks, *user_callbacks(cfg)]
    options, scenario = training.trained_options(cfg), training.scenario_of(cfg)
    parts = assembly.open_parts(
        cfg,
        {"train": scenario, "val": scenario},
        placement.device,
        batch_size=options.served(placement.processes),
        accumulate=options.accumulate,
    )
    parts.data.setup("fit")
    module = training.make_module(cfg, parts.model, parts.inputs)
    check_lengths(module.get_submodule("editor").train(), parts.data, "train", "val")
    continuing.check_same_edits(cfg, parts.data)  # those that were not too long either
    placement.check_same_edits(parts.data.served)
    settle_batch_size(cfg, parts, module.get_submodule("editor"), "val")
    parts.data.eval_batch_size = options.judged(parts.data.eval_batch_size)
    length = training.trainer_arguments(cfg, parts.data, placement.processes)
    if cfg.trainer.fast_dev_run:
        try_out(cfg, module, parts.data, callbacks, **length)
        return None

    name = f"{cfg.editor.name} {cfg.model.name} training"
    with ExitStack() as opened:
        folder = opened.enter_context(output_folder(placement.cfg))
        if placement.rank == 0:
            continuing.take_along(ckpt, folder)
        steps, validated = continuing.steps_done(ckpt)
        loggers = opened.enter_context(
            open_loggers(cfg, folder, name=name, continue_after=steps, validated=validated)
        )
        ours = training.make_callbacks(cfg, folder, parts.data, logged=bool(loggers))
        trainer = assembly.make_trainer(
            cfg.trainer, loggers=loggers, callbacks=[*ours, *callbacks], root=folder, **length
        )
        lines = training.fit(cfg, trainer, module, parts.data)
        if trainer.is_global_zero and cfg.logger.csv:
            log_pictures(loggers, "curves", draw_curves(folder))
    return show(folder / CHECKPOINTS, *lines) if placement.rank == 0 else None


def show(folder: Path, *lines: str) -> float | None:
    """Prints lines and the checkpoints that are there; returns the best validation loss."""
    from results.screen import screen
    from runner.continuing import best_so_far

    console = screen()
    for line in lines:
        console.print(line, soft_wrap=True)
    for name in (BEST, LAST):
        if (file := folder / name).is_file():
            console.print(f"{file.stem} {file}", soft_wrap=True)
    return best_so_far(folder)


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
