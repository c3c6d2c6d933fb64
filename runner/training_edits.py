"""Edits of the training split, for editors that look at some before the first test edit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from rich.progress import track

from datamodules.datamodule import EditDataModule
from datamodules.fact_marks import TaughtFacts
from datamodules.images import ImageStore
from datamodules.order import cut
from datamodules.prompt_encoder import PromptEncoder
from datamodules.scenarios import Scenario
from datamodules.source import RecordSource
from editors.base import TrainingEdits
from editors.options import EditorOptions
from errors import DataError
from lightning_modules.reading import knows
from models.editable import EditableModel
from models.rows import EditBatch
from results.screen import screen


def training_edits(
    source: RecordSource,
    scenario: Scenario,
    encoder: PromptEncoder,
    images: ImageStore,
    model: EditableModel,
    editor: EditorOptions,
    *,
    batch_size: int,
    taught: TaughtFacts | None = None,
) -> TrainingEdits:
    """What `EditorInputs.training_edits` gives: the first edits of the training split.

    Args:
        source: with its training records.
        scenario: what teaches an edit; none of its probes is asked.
        encoder: tokens of the base model.
        images: pixels of it.
        model: the base model, asked for what it knows where the data filters on that.
        editor: refuses records that it cannot work with.
        batch_size: edits side by side.
        taught: as in `EditDataModule`.
    """

    def first(n_edits: int) -> Iterator[EditBatch]:
        data = EditDataModule(
            source,
            {"train": replace(scenario, probes={})},
            eval_batch_size=batch_size,
            limit=n_edits,
            check_record=editor.check_record,
            taught=taught,
        )
        data.connect(encoder, images, knows(model))
        data.setup()
        if data.n_edits("train") < n_edits:
            raise DataError(
                f"editor={editor.label} looks at {n_edits} edits of the training split, and "
                f"{data.n_edits('train')} of {source.named('train')} can be made. Lower "
                "editor.warm_up, or give more training records."
            )
        batches = data.batches("train", cut(range(n_edits), batch_size), teaching=True)
        console = screen(stderr=True)
        for batch in track(batches, "Warm-up", console=console, transient=True):
            yield batch.to(model.device)

    return first
