"""Judges an editor: single edits, every probe of every edit, results on disk and on screen.

`python evaluate.py --help` shows examples and options.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from configs.launch import run_command

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from lightning.pytorch.loggers import Logger

    from configs.schema import EvaluateConfig
    from runner.start import Placement


def main(cfg: EvaluateConfig) -> float | None:
    """Evaluates one editor in one scenario; returns the score that the key `score` asks for."""
    from runner.start import start

    with start(cfg, parallel=True) as placement:
        return evaluate(placement)


def evaluate(placement: Placement[EvaluateConfig]) -> float | None:
    """Evaluates one editor, in each of its processes; the first one returns the score.

    What an earlier run in the folder has done stays done.
    """
    from configs.rundir import has_result, is_finished, output_folder
    from loggers.run_loggers import open_loggers
    from reporting.run_tables import run_markdown
    from results.partial import remove_partial
    from results.provenance import reset_peak_memory
    from runner import evaluating
    from runner.callbacks import user_callbacks

    cfg, is_first = placement.cfg, placement.rank == 0
    callbacks = [*placement.callbacks, *user_callbacks(cfg)]
    if placement.first_decides(is_finished(cfg)):
        return show(Path(cfg.output_dir), "Finished already:", cfg.score) if is_first else None
    reset_peak_memory(placement.device)
    run = module = None
    if not placement.first_decides(has_result(cfg)):
        run = evaluating.prepare(placement)
        if cfg.trainer.fast_dev_run:
            evaluating.try_evaluation(run, callbacks)
            return None
        module = evaluating.make_module(run)
    name = f"{cfg.editor.name} {cfg.model.name} {cfg.scenario.name}"
    with output_folder(cfg) as folder:
        with open_loggers(cfg, folder, name=name, curves=False) as loggers:
            # Another run may have come to its end here while this one was loading.
            if run and module and not placement.first_decides(has_result(cfg)):
                evaluating.score(
                    run, module, folder,
                    loggers=loggers, callbacks=callbacks, markdown=run_markdown,
                )  # fmt: skip
            if is_first:
                publish(cfg, folder, loggers)
        if is_first:  # only now has W&B got everything
            remove_partial(folder)
            return show(folder, "Written to", cfg.score)
    return None


def publish(cfg: EvaluateConfig, folder: Path, loggers: Sequence[Logger]) -> None:
    """Draws and sends a result that is written; it may be done again."""
    from loggers.wandb_results import send_folder
    from reporting.figures import result_figure
    from results.partial import explain_unwritable

    figure = functools.partial(result_figure, folder)
    with explain_unwritable(folder):
        if cfg.protocol.n is not None:
            figure(folder / "curve")
        send_folder(loggers, folder, table_edits=cfg.logger.table_edits, draw=figure)


def show(folder: Path, what: str, score: str | None) -> float | None:
    """Prints the result in a folder; returns its score."""
    from reporting.console import beside_tables, result_table
    from reporting.paper import score_of
    from results.folder import read_run
    from results.screen import screen

    run = read_run(folder)
    console = screen()
    console.print(result_table(run))
    for beside in beside_tables(run):
        console.print(beside)
    console.print(f"{what} {folder}", soft_wrap=True)
    return score_of(run, score)


if __name__ == "__main__":
    run_command("evaluate", main)
