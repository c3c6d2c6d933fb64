"""The steps of an evaluation: what is loaded, how it is tried out, how its edits are scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger

from configs.schema import EvaluateConfig
from lightning_modules.evaluation import EvaluationModule
from results.folder import RunResult
from results.partial import PartialResults, edits_of
from results.writing import write_result
from runner import assembly
from runner.batch_size import continued_batch_size, settle_batch_size
from runner.caching import log_use, total
from runner.name_first import name_first_lines
from runner.start import Placement
from runner.summary import Run
from runner.trial import try_out

log = logging.getLogger(__name__)


def prepare(placement: Placement[EvaluateConfig]) -> Run:
    """Loads data, model and editor.

    Raises:
        TmkeError: something is missing, damaged or does not fit.
    """
    cfg = placement.cfg
    parts = assembly.open_parts(cfg, {"test": assembly.asked_scenario(cfg)}, placement.device)
    editor = assembly.open_editor(cfg, parts)
    placement.check_same_edits(parts.data.served)
    settle_batch_size(cfg, parts, editor, "test")
    run = Run(cfg, parts, editor, placement)
    if run.targets and (warning := run.targets.warning(cfg.metrics.cluster)):
        log.warning("%s", warning)
    return run


def try_evaluation(run: Run, callbacks: Sequence[Callback]) -> None:
    """Evaluates a few batches and writes nothing: `trainer.fast_dev_run`."""
    module = assembly.make_evaluation(run.cfg, run.parts, run.editor)
    try_out(run.cfg, module, run.data, callbacks)


def make_module(run: Run) -> EvaluationModule:
    """The evaluation, which keeps its batches in the output folder.

    Raises:
        ConfigError: there are fewer edits than the last point of the protocol.
    """
    batches = PartialResults(Path(run.cfg.output_dir), run.identity())
    return assembly.make_evaluation(run.cfg, run.parts, run.editor, batches)


def score(
    run: Run,
    module: EvaluationModule,
    folder: Path,
    *,
    loggers: Sequence[Logger],
    callbacks: Sequence[Callback],
    markdown: Callable[[RunResult], str],
) -> None:
    """Scores all edits that are not on disk yet, and writes the files of the result.

    Raises:
        TmkeError: an earlier run in the folder was another one, or something cannot be written.
    """
    placement, is_first = run.placement, run.placement.rank == 0
    batches = module.partial.open() if is_first and module.partial is not None else []
    if run.cfg.protocol.n is None:  # else a result is no batch but a point of the curve
        size = continued_batch_size(run.cfg.evaluate, batches, run.data.eval_batch_size)
        run.data.eval_batch_size = placement.first_decides(size)
    module.resume(batches, placement.first_decides(edits_of(batches)), run.data)
    trainer = assembly.make_trainer(
        run.cfg.trainer, loggers=loggers, callbacks=callbacks, root=folder
    )
    trainer.test(module, datamodule=module.edit_source(run.data), verbose=False)
    if is_first:
        log_use(total(module.from_cache))
        lines, curve = module.outcome.lines, module.curve_lines()
        probes = [*run.probes(), *name_first_lines(run.prompts(), lines)]
        write_result(folder, run.summary(module), lines, probes, curve, markdown=markdown)
