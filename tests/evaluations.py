"""Evaluations of records of a small world, in this process."""

from __future__ import annotations

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.scenarios import Scenario
from datamodules.source import FilterKnown, RecordSource
from editors.base import Editor
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.reading import knows
from models.editable import EditableModel
from models.processor import Processor
from results.outcome import Outcome
from runner.assembly import make_encoder
from tests.builders import trainer


def served(
    source: RecordSource,
    processor: Processor,
    model: EditableModel,
    scenario: Scenario,
    size: int,
    *,
    limit: int | None = None,
    by: FilterKnown = "none",
) -> EditDataModule:
    """The test records of a source as a run has them, `size` edits a batch, `limit` in all.

    Those whose facts the unedited model does not know are left out `by` what it is asked.
    """
    filtered = RecordSource(source.name, source.image_root, source.splits, False, by)
    data = EditDataModule(filtered, {"test": scenario}, eval_batch_size=size, limit=limit)
    data.connect(make_encoder(processor, "default"), ImageStore(processor.pixels), knows(model))
    data.setup("test")
    return data


def evaluated(
    model: EditableModel, processor: Processor, data: EditDataModule, editor: Editor
) -> Outcome:
    """What an editor comes to on them."""
    encoder, scenario = make_encoder(processor, "default"), data.scenarios["test"]
    module = EvaluationModule(model, editor, scenario, encoder, answered=data.answered)
    trainer().test(module, datamodule=data, verbose=False)
    return module.outcome
