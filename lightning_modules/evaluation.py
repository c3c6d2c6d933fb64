"""The one evaluation: any editor, any scenario, B single edits at a time.

Per batch the shared part of the network runs once (`prefix`), the unedited model's answers and the
edited models' answers are two suffixes over the same state, and every probe of every edit is scored
from them. "Before" always means the unedited base model. A batch that is done is on disk before the
next one begins (`results.partial`), and a continued run takes it from there.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import lightning as L
import torch
from torch import Tensor, distributed
from torchmetrics import MetricCollection

from datamodules.datamodule import EditDataModule
from datamodules.scenarios import Scenario
from datamodules.tokenisation import PromptEncoder
from editors.base import Edit, Editor, Reporting, Scoped
from lightning_modules.generation import Generator
from lightning_modules.scoring import (
    SCOPE_PROBABILITY,
    Compared,
    Predictions,
    Scoring,
    compare,
    compare_everywhere,
    locality_rows,
    measures,
    result_rows,
    scored_rows,
)
from metrics.bootstrap import Estimate
from metrics.collection import PerEditLeak, PerEditScores
from metrics.headlines import EVERYWHERE, GENERATION_MATCH, hop_parts
from metrics.scope import ScopeQuality
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch, Rows
from results.partial import BatchResult, PartialResults, edits_of

Value = TypeVar("Value")
ABOUT_THE_EDIT, LEFT_ALONE = ("reliability", "generality"), ("locality", "stability")


class EvaluationModule(L.LightningModule):
    """Scores an editor on the test split.

    Args:
        model: the base model.
        editor: the editor, on the model's device when it has weights.
        scenario: gives the probes' names.
        encoder: the run's prompt function.
        scoring: what is measured.
        partial: where batches that are done are kept; None: in memory alone.
    """

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        scenario: Scenario,
        encoder: PromptEncoder,
        scoring: Scoring | None = None,
        partial: PartialResults | None = None,
    ) -> None:
        super().__init__()
        self.model, self.editor, self.encoder = model, editor, encoder
        self.scoring, self.partial = scoring or Scoring(), partial
        self.scores = MetricCollection(
            {
                f"{probe}/{measure}": PerEditLeak() if probe.startswith("leak") else PerEditScores()
                for probe in scenario.probes
                for measure in measures(probe, self.scoring)
            },
            compute_groups=False,
        )
        self.done: list[BatchResult] = []

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Edits, answers and scores one batch."""
        del batch_idx
        batch, state = self._read(batch)
        started = self._now()
        edit = self.editor.edit(self.model, batch, state)
        seconds = (self._now() - started) / len(batch)
        lines, answered = self._judged(batch, state, edit, seconds=seconds)
        report = edit.report() if isinstance(edit, Reporting) else {}
        result = BatchResult(batch.edit_ids, list(lines), answered, report)
        self.take(result)
        if self.partial is not None:
            self.partial.add(result)

    def take(self, result: BatchResult) -> None:
        """Counts a batch, just scored or from an earlier run; edits that came before count once."""
        self.done.append(result)
        found: dict[str, tuple[list[int], list[float]]] = {}
        for row in result.rows:
            ids, values = found.setdefault(f"{row['probe']}/{row['metric']}", ([], []))
            ids.append(row["edit_id"])
            values.append(row["value"])
        for name, metric in self.scores.items(keep_base=True):
            if name in found:
                ids, values = found[name]
                cast(PerEditScores, metric).update(torch.tensor(ids), torch.tensor(values))

    def continue_with(self, batches: Sequence[BatchResult], data: EditDataModule) -> None:
        """Takes what an earlier run has done, which the data then need not serve."""
        for batch in batches:
            self.take(batch)
        data.leave_out = edits_of(batches)

    def served_by(self, data: EditDataModule) -> EditDataModule | None:
        """What the trainer takes the edits from; None: from the module itself."""
        return data

    def told(self, metrics: Metrics) -> dict[str, Any]:
        """What summary.json says besides the metrics."""
        del metrics
        return {}

    def curve_rows(self) -> list[dict[str, Any]]:
        """Lines of curve.parquet; single edits have none."""
        return []

    def outcome(self) -> Outcome:
        """Everything that was found, of all processes; every process has to call this."""
        scores = {}
        for name, metric in self.scores.items(keep_base=True):
            probe, measure = name.split("/")
            scores[probe, measure] = cast(PerEditScores, metric).per_edit()
        batches = [batch for one in all_gather_objects(self.done) for batch in one]
        return Outcome.of(batches, scores, getattr(self.editor, "threshold", 0.5))

    @torch.no_grad()
    def _read(self, batch: EditBatch) -> tuple[EditBatch, PrefixState]:
        """The batch with its picture features, and the state below all edits, which none moves."""
        batch = replace(batch, rows=self.model.encode_pictures(batch.rows))
        return batch, self.model.prefix(batch.rows, self.editor.first_layer(self.model))

    def _judged(
        self,
        batch: EditBatch,
        state: PrefixState,
        edit: Edit,
        *,
        seconds: float,
        under: Tensor | None = None,
    ) -> tuple[Iterator[dict[str, Any]], float]:
        """Lines of all probes, and seconds per edit to answer them.

        Args:
            batch: from `_read`.
            state: from `_read`.
            edit: answers the rows.
            seconds: per edit, to make it.
            under: (R,) the number in `edit` that each row is answered under; None: its own edit.
        """
        rows = batch.rows if under is None else replace(batch.rows, edit_index=under)
        at = rows.answers()
        with torch.no_grad():
            pre = Predictions.of(self.model.suffix(state, at=at))
        started = self._now()
        compared = compare(self.model, edit, rows, state, at, pre)
        answered = (self._now() - started) / len(batch)
        scores, generated = self._scored(replace(batch, rows=rows), state, edit, compared)
        lines = result_rows(
            batch, scores, compared, self.encoder.decode,
            scoring=self.scoring, seconds=seconds, generated=generated,
        )  # fmt: skip
        return lines, answered

    def _scored(
        self, batch: EditBatch, state: PrefixState, edit: Edit, compared: Compared
    ) -> tuple[dict[str, Tensor], Mapping[int, str]]:
        """All measures of all rows, and what was generated."""
        scores, generated = compared.answers(), dict[int, str]()
        if self.scoring.positions == "all":
            if getattr(self.editor, "compares_answers_only", False):
                scores |= compared.agreements(EVERYWHERE)
            else:
                chosen = locality_rows(batch)
                scores |= compare_everywhere(self.model, edit, batch.rows, state, chosen)
        if self.scoring.generation:
            generator = Generator(
                self.model,
                self.encoder,
                self.editor.first_layer(self.model),
                self.scoring.max_new_tokens,
            )
            chosen = scored_rows(batch)
            scores[GENERATION_MATCH], generated = generator.matches(
                edit, batch.rows, chosen, compared
            )
        if isinstance(edit, Scoped):
            with torch.no_grad():
                scores[SCOPE_PROBABILITY] = edit.scope_probabilities(batch.rows)
        return scores, generated

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


Metrics = Callable[["Outcome"], Mapping[str, Estimate]]


@dataclass(frozen=True)
class Outcome:
    """What an evaluation found, of all processes.

    Attributes:
        rows: lines of edits.parquet, each (edit, probe, measure) once.
        scores: (probe, measure) -> edit id -> fraction.
        report: what the editor says of itself (means over edits), and the quality of its scope.
        seconds: edit id -> to make it.
        answer_seconds: edit id -> to answer all its probes.
    """

    rows: list[dict[str, Any]]
    scores: dict[tuple[str, str], dict[int, float]]
    report: dict[str, float]
    seconds: dict[int, float]
    answer_seconds: dict[int, float]

    @classmethod
    def of(
        cls,
        batches: Iterable[BatchResult],
        scores: dict[tuple[str, str], dict[int, float]],
        threshold: float,
    ) -> Outcome:
        """From the batches of all processes; an edit that came twice counts as it came first."""
        rows: dict[tuple[int, str, str], dict[str, Any]] = {}
        answering: dict[int, float] = {}
        reports: dict[int, dict[str, float]] = {}
        for batch in batches:
            for row in batch.rows:
                rows.setdefault((row["edit_id"], row["probe"], row["metric"]), row)
            for place, edit in enumerate(batch.edit_ids):
                answering.setdefault(edit, batch.answer_seconds)
                said = {name: values[place] for name, values in batch.report.items()}
                reports.setdefault(edit, said)
        ordered = [rows[key] for key in sorted(rows)]
        return cls(
            rows=ordered,
            scores=scores,
            report=_means(reports.values()) | scope_quality(ordered, threshold),
            seconds={row["edit_id"]: row["seconds"] for row in ordered},
            answer_seconds=dict(sorted(answering.items())),
        )

    def with_hops(self, hops: Mapping[int, int]) -> dict[tuple[str, str], dict[int, float]]:
        """The scores, and Portability's by number of hops where edits differ in it."""
        return self.scores | hop_parts(self.scores, hops)


def scope_quality(rows: Iterable[Mapping[str, Any]], threshold: float) -> dict[str, float]:
    """Whether a scope tells the edit's own questions from those that it must leave alone.

    Args:
        rows: lines of edits.parquet; without any of `SCOPE_PROBABILITY` there is nothing to tell.
        threshold: of a hard decision.
    """
    told = [
        (row["value"], row["probe"].startswith(ABOUT_THE_EDIT))
        for row in rows
        if row["metric"] == SCOPE_PROBABILITY
        and row["probe"].startswith(ABOUT_THE_EDIT + LEFT_ALONE)
    ]
    if not told:
        return {}
    # The rows are those of all processes already.
    quality = ScopeQuality(threshold, sync_on_compute=False)
    probabilities, inside = zip(*told, strict=True)
    quality.update(torch.tensor(probabilities), torch.tensor(inside))
    found = {f"scope_{name}": float(value) for name, value in quality.compute().items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _means(reports: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Means over edits; an edit of which nothing is said counts as 0."""
    listed = list(reports)
    names = {name: None for report in listed for name in report}
    return {name: sum(report.get(name, 0.0) for report in listed) / len(listed) for name in names}


def knows(model: EditableModel) -> Callable[[Rows], Tensor]:
    """Whether the unedited model gives every answer token right: rows -> (R,) bool."""

    @torch.no_grad()
    def right(rows: Rows) -> Tensor:
        rows = rows.to(model.device)
        at = rows.answers()
        hits = (model(rows, at=at).argmax(-1) == at.target).float()
        return at.row_mean(hits) == 1

    return right


def all_gather_objects(value: Value) -> list[Value]:
    """The values of all processes in the order of their ranks; the value alone without others.

    Every process has to call this, and every process gets the same answer.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Value | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
