"""The one evaluation: any editor, any scenario, B single edits at a time.

Per batch the shared part of the network runs once (`prefix`), the unedited model's answers and the
edited models' answers are two suffixes over the same state, and every probe of every edit is scored
from them. "Before" always means the unedited base model. A batch that is done is on disk before the
next one begins (`results.partial`), and a continued run takes it from there. Scores of all
processes come together before the trainer tears down.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from datamodules.datamodule import EditDataModule
from datamodules.prompt_encoder import PromptEncoder
from datamodules.scenarios import Scenario
from editors.base import Edit, Editor, Reporting, Scoped, state_for
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.name_first import NameFirst, naming_lines
from lightning_modules.predictions import base_predictions
from lightning_modules.reading import PictureReading
from lightning_modules.scoring import (
    Comparison,
    Scoring,
    Unedited,
    columns,
    compare,
    compare_everywhere,
    locality_rows,
    name_first_columns,
    result_lines,
    target_rows,
)
from metrics.bootstrap import Estimate
from metrics.functional import exact_match
from metrics.headlines import EVERYWHERE, GENERATION_MATCH, SCOPE_PROBABILITY
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from results.outcome import Outcome, ScoredEdits, all_gather_objects
from results.partial import BatchResult, Line, PartialResults
from results.provenance import peak_memory_bytes

Metrics = Callable[[Outcome], Mapping[str, Estimate]]


class EvaluationModule(L.LightningModule):
    """Scores an editor on the test split.

    Args:
        editor: the editor, on the model's device when it has weights.
        scenario: gives the probes' names.
        scoring: what is measured.
        partial: where batches that are done are kept; None: in memory alone.
        answered: what the unedited model was asked before -> whether it answered right.

    Attributes:
        outcome: of all processes, once the last batch is scored.
        peak_memory_bytes: then, the most of any process; None where one cannot know it.
        from_cache: then, what each process took from the base model's cache and gave to it.
    """

    outcome: Outcome
    peak_memory_bytes: int | None
    from_cache: Sequence[Mapping[str, Mapping[str, int]]]

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        scenario: Scenario,
        encoder: PromptEncoder,
        scoring: Scoring | None = None,
        partial: PartialResults | None = None,
        answered: Mapping[Any, bool] | None = None,
    ) -> None:
        super().__init__()
        # A tuple hides them from torch: what Lightning knows of goes to all processes before the
        # first batch and back to the host after the last one, 14 GB of a 7B model.
        self._parts = (model, editor)
        self.encoder = encoder
        self.scoring, self.partial = scoring or Scoring(), partial
        self._columns = columns(scenario.probes, self.scoring)
        self._name_first: NameFirst | None = None
        if scenario.names_first:
            self._name_first = NameFirst(model, encoder, self.scoring.max_new_tokens)
            self._columns += name_first_columns(scenario.probes, self.scoring)
        self.scored = self.new_scored()
        self._reading = PictureReading(model, answered)

    @property
    def model(self) -> EditableModel:
        return self._parts[0]

    @property
    def editor(self) -> Editor:
        return self._parts[1]

    def setup(self, stage: str) -> None:
        """Brings model and editor to the device and into eval mode, which Lightning cannot."""
        del stage
        for part in self._parts:
            if isinstance(part, nn.Module):
                part.to(self.trainer.strategy.root_device).eval()

    def new_scored(self) -> ScoredEdits:
        """A collection of scored edits, still empty."""
        return ScoredEdits(self._columns, getattr(self.editor, "threshold", 0.5))

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Edits, answers and scores one batch."""
        del batch_idx
        batch, state = self._prefix(batch)
        pre = self._unedited(batch, state)
        started = self._now()
        edit = self.editor.edit(self.model, batch, state)
        seconds = (self._now() - started) / len(batch)
        scored, answer_seconds = self._score(batch, state, edit, pre, seconds=seconds)
        lines = list(scored)
        report = edit.report() if isinstance(edit, Reporting) else {}
        lines += self._score_by_name(batch, edit, seconds)
        result = BatchResult(batch.edit_ids, lines, answer_seconds, report)
        self.add(result)
        if self.partial is not None:
            self.partial.add(result)

    def on_test_epoch_end(self) -> None:
        """Brings all processes together while their devices and their group are still there."""
        self.outcome = self.compute_outcome()
        peaks = all_gather_objects(peak_memory_bytes(self.device))
        self.from_cache = all_gather_objects(self.model.cache.report())
        known = [peak for peak in peaks if peak is not None]
        self.peak_memory_bytes = max(known) if len(known) == len(peaks) else None

    def compute_outcome(self) -> Outcome:
        """What was scored so far, in all processes; every process has to call this."""
        return self.scored.outcome()

    def add(self, result: BatchResult) -> None:
        """Counts a batch, just scored or from an earlier run; edits that came before count once."""
        self.scored.add(result)

    def resume(
        self, batches: Sequence[BatchResult], done: frozenset[int], data: EditDataModule
    ) -> None:
        """Takes what an earlier run has scored.

        Args:
            batches: of that run, in one process alone.
            done: edits in them, which the data of no process need serve.
            data: serves the others.
        """
        for batch in batches:
            self.add(batch)
        data.leave_out = done

    def edit_source(self, data: EditDataModule) -> EditDataModule | None:
        """What the trainer takes the edits from; None: from the module itself."""
        return data

    def summary_fields(self, metrics: Metrics) -> dict[str, Any]:
        """What summary.json says besides the metrics."""
        del metrics
        return {}

    def curve_lines(self) -> list[Line]:
        """Lines of curve.parquet; single edits have none."""
        return []

    @torch.no_grad()
    def _prefix(self, batch: EditBatch) -> tuple[EditBatch, PrefixState]:
        """The batch with its picture features, and the state below all edits, which none moves."""
        batch = replace(batch, rows=self.model.encode_pictures(batch.rows))
        layer = self.editor.first_layer(self.model)
        state = self.model.prefix(batch.rows, layer, packed=True)
        return batch, state_for(self.editor, state)

    @torch.no_grad()
    def _unedited(self, batch: EditBatch, state: PrefixState) -> Unedited:
        """What the unedited model says, before an edit is made that could be blamed for it.

        Raises:
            ModelError: they are no numbers.
        """
        at, started = batch.rows.answers(), self._now()
        pre = base_predictions(self.model, batch.rows, state, at)
        seconds = self._now() - started if state.answered else 0.0
        self._check(batch).unedited(pre.largest, at.row)
        is_right = exact_match(pre.best, at.target, at.row, at.n_rows) == 1
        return Unedited(pre, self._reading(batch, is_right), seconds)

    def _check(self, batch: EditBatch) -> FiniteCheck:
        return FiniteCheck(batch, self.model, self.editor.name)

    def _score(
        self,
        batch: EditBatch,
        state: PrefixState,
        edit: Edit,
        pre: Unedited,
        *,
        seconds: float,
        under: Tensor | None = None,
    ) -> tuple[Iterator[Line], float]:
        """Lines of all probes, and seconds per edit to answer them.

        `seconds` is what it took to make an edit; `under` (R,) the number in `edit` that each row
        is answered under, None for its own edit.
        """
        rows = batch.rows if under is None else replace(batch.rows, edit_index=under)
        at, check = rows.answers(), self._check(batch)
        started = self._now()
        comparison = compare(self.model, edit, rows, state, at, pre.answers)
        answer_seconds = (self._now() - started + pre.seconds) / len(batch)
        check.edited(comparison.post.largest, at.row)
        under_edits = replace(batch, rows=rows)
        scores, generated = self._measure(under_edits, state, edit, comparison, check)
        lines = result_lines(
            batch, scores, comparison, self.encoder.decode,
            scoring=self.scoring, seconds=seconds, read=pre.read, generated=generated,
        )  # fmt: skip
        return lines, answer_seconds

    def _score_by_name(self, batch: EditBatch, edit: Edit, seconds: float) -> Iterator[Line]:
        """Lines of what pictures were named, and of the probes asked by these names."""
        if self._name_first is None:
            return
        yield from naming_lines(batch, self._name_first.ask(batch), seconds=seconds)
        if (by_name := self._name_first.chained(batch, self.editor)) is not None:
            by_name, state = self._prefix(by_name)
            pre = self._unedited(by_name, state)
            lines, _ = self._score(by_name, state, edit, pre, seconds=seconds)
            yield from lines

    def _measure(
        self,
        batch: EditBatch,
        state: PrefixState,
        edit: Edit,
        comparison: Comparison,
        check: FiniteCheck,
    ) -> tuple[dict[str, Tensor], Mapping[int, str]]:
        """All measures of all rows, and what was generated."""
        scores, generated = comparison.answers(), dict[int, str]()
        if self.scoring.positions == "all":
            if getattr(self.editor, "compares_answers_only", False):
                scores |= comparison.agreements(EVERYWHERE)
            else:
                rows = locality_rows(batch)
                scores |= compare_everywhere(self.model, edit, batch.rows, state, rows, check)
        if self.scoring.generation:
            generator = Generator(
                self.model,
                self.encoder,
                self.editor.first_layer(self.model),
                self.scoring.max_new_tokens,
                check,
            )
            scores[GENERATION_MATCH], generated = generator.matches(
                edit, batch.rows, target_rows(batch), comparison
            )
        if isinstance(edit, Scoped):
            with torch.no_grad():
                scores[SCOPE_PROBABILITY] = edit.scope_probabilities(self.model, batch.rows, state)
        return scores, generated

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
