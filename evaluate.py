"""Judges an editor: single edits, every probe of every edit, results on disk and on screen.

`python evaluate.py --help` shows examples and options.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from configs.launch import run_command

if TYPE_CHECKING:  # nothing heavy is imported before the options are checked
    from configs.schema import EvaluateConfig
    from runner.start import Placement


def main(cfg: EvaluateConfig) -> float | None:
    """Evaluates one editor in one scenario; returns the score that the key `score` asks for."""
    from runner.start import start

    with start(cfg, parallel=True) as placement:
        return evaluate(placement)


def evaluate(placement: Placement[EvaluateConfig]) -> float | None:
    """Evaluates one editor, in each of its processes; the first one returns the score."""
    import lightning as L

    from configs.rundir import is_finished, output_folder
    from datamodules.scenarios import SCENARIOS
    from loggers.run_loggers import open_loggers
    from loggers.wandb_results import send_result
    from reporting.tables import run_markdown
    from results.partial import PartialResults
    from results.writing import write_result
    from runner import assembly
    from runner.callbacks import user_callbacks
    from runner.summary import Run
    from runner.trial import try_out

    cfg = placement.cfg
    callbacks = [*placement.callbacks, *user_callbacks(cfg)]
    if placement.first_decides(is_finished(cfg)):
        first = placement.rank == 0
        return show(Path(cfg.output_dir), "Finished already:", cfg.score) if first else None
    parts = assembly.open_parts(cfg, {"test": SCENARIOS[cfg.scenario.name]}, placement.device)
    editor = assembly.open_editor(cfg, parts)
    if cfg.trainer.fast_dev_run:
        module = assembly.make_evaluation(cfg, parts, editor)
        test = functools.partial(L.Trainer.test, model=module, datamodule=parts.data, verbose=False)
        try_out(cfg, test, "evaluation", callbacks)
        return None
    run = Run(cfg, parts, editor, placement)
    partial = PartialResults(Path(cfg.output_dir), run.identity())
    module = assembly.make_evaluation(cfg, parts, editor, partial)
    name = f"{cfg.editor.name} {cfg.model.name} {cfg.scenario.name}"
    with (
        output_folder(cfg) as folder,
        open_loggers(cfg, folder, name=name, curves=False) as loggers,
    ):
        module.resume(partial.open(), parts.data)
        trainer = assembly.make_trainer(
            cfg.trainer, loggers=loggers, callbacks=callbacks, root=folder
        )
        trainer.test(module, datamodule=module.edit_source(parts.data), verbose=False)
        if trainer.is_global_zero:
            summary, lines, probes = run.summary(module), module.outcome.lines, list(run.probes())
            write_result(
                folder, summary, lines, probes, module.curve_lines(), markdown=run_markdown
            )
            partial.remove()
            figure = draw(folder)
            if cfg.protocol.n is not None:
                figure(folder / "curve")
            edits = cfg.logger.table_edits
            send_result(loggers, summary, lines, probes, table_edits=edits, draw=figure)
            return show(folder, "Written to", cfg.score)
    return None


def draw(folder: Path) -> Callable[[Path], list[Path]]:
    """Draws the figure of the result in a folder, given a path without suffix."""

    def figure(base: Path) -> list[Path]:
        from reporting.entries import Entry
        from reporting.figures import grouped_bars, sequential_curves
        from results.folder import read_run

        run = read_run(folder)
        row = [Entry.of(run)]
        return sequential_curves(row, base) if run.curve else grouped_bars(row, base)

    return figure


def show(folder: Path, what: str, score: str | None) -> float | None:
    """Prints the result in a folder; returns its score."""
    from rich.console import Console

    from reporting.console import result_table
    from reporting.paper import score_of
    from results.folder import read_run

    run = read_run(folder)
    Console().print(result_table(run), f"{what} {folder}")
    return score_of(run, score)


if __name__ == "__main__":
    run_command("evaluate", main)
