"""Edits that stay in place, one made after the other: protocol=sequential.

    theta_i = theta_{i-1} + D_i(theta_{i-1}),    theta_0 the unedited model

Edit i is made on the model that the edits before it have changed; SERAC and IKE store it beside
them. At every point n of the protocol the probes of all n edits are asked again, against their
targets and, for locality, against the answers of theta_0; those whose answer another edit in place
has changed are left out (`datamodules.contradicted`). No weight is written
(`EditableModel.holding`), so all edits are gone with the values that they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from datamodules.contradicted import contradicted
from datamodules.datamodule import EditDataModule
from datamodules.scenarios import Scenario
from datamodules.tokenisation import PromptEncoder
from editors.base import Editor, Lasting, Reporting
from errors import ConfigError
from lightning_modules.evaluation import EvaluationModule, Metrics, Outcome
from lightning_modules.scoring import Scoring
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from results.partial import BatchResult, PartialResults

IN_PLACE = "edits_in_place"


def check_points(points: Sequence[int], data: EditDataModule) -> None:
    """Refuses points of the curve that the test split has too few edits for.

    Args:
        points: numbers of edits in place, ascending.
        data: set up, so that facts which the unedited model does not know are left out already.

    Raises:
        ConfigError: naming both numbers.
    """
    there, known = data.n_edits("test"), data.known.get("test")
    if there < points[-1]:
        of = "" if known is None else f" of {known.candidates} whose facts the unedited model knows"
        raise ConfigError(
            f"protocol.n={','.join(map(str, points))} makes {points[-1]} edits one after the "
            f"other, and the test split of data={data.source.name} has {there}{of}. Give no number "
            f"above {there}, or more data."
        )


class SequentialModule(EvaluationModule):
    """Makes edits one after the other and scores all of them at some points.

    `outcome` is that of the last point. A point that an earlier run has scored is taken as it is;
    the edits themselves are stored nowhere and made again.

    Args:
        model: the base model.
        editor: the editor, on the model's device when it has weights.
        scenario: gives the probes' names.
        encoder: the run's prompt function.
        scoring: what is measured.
        partial: where points that are done are kept; None: in memory alone.
        data: serves the edits one by one, and their probes in batches of its `eval_batch_size`.
        points: numbers of edits in place, ascending; the last one is the number of edits made.

    Raises:
        ConfigError: the test split has fewer edits.
    """

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        scenario: Scenario,
        encoder: PromptEncoder,
        scoring: Scoring | None = None,
        partial: PartialResults | None = None,
        *,
        data: EditDataModule,
        points: Sequence[int],
    ) -> None:
        super().__init__(model, editor, scenario, encoder, scoring, partial)
        check_points(points, data)
        self.data, self.points = data, tuple(points)
        self._contradicted = contradicted(data.records("test")[: points[-1]], scenario)
        self.in_place: Lasting | None = None
        self._seconds: list[float] = []  # by edit: to make it
        self._made: list[BatchResult] = []  # by edit: right after it was made
        self._scored_points: dict[int, BatchResult] = {}

    def test_dataloader(self) -> DataLoader[EditBatch]:
        """The edits, one by one."""
        return self.data.first("test", self.points[-1], 1)

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Makes one edit on top of the earlier ones; at a point, scores all of them."""
        del batch_idx
        batch, state = self._read(batch)
        started = self._now()
        before = self.in_place
        with nullcontext() if before is None else before.in_place(self.model):
            edit = self.editor.edit(self.model, batch, state)
        self._seconds.append(self._now() - started)
        if not isinstance(edit, Lasting):
            raise ConfigError(
                f"editor={self.editor.name} makes edits that cannot stay in place, which "
                "protocol=sequential asks for (editors.base.Lasting). Use protocol=single."
            )
        self.in_place = edit.after(before)
        self._made.append(self._all_judged(batch, state, self.in_place))
        n = len(self._seconds)
        if n in self.points and n not in self._scored_points:
            point = self._point(n, self.in_place)
            self.take(point)
            if self.partial is not None:
                self.partial.add(point)

    def take(self, result: BatchResult) -> None:
        """Counts a point of the curve, just scored or from an earlier run."""
        n = len(result.edit_ids)
        self._scored_points[n] = result
        if n == self.points[-1]:
            super().take(_without_point(result))

    def continue_with(self, batches: Sequence[BatchResult], data: EditDataModule) -> None:
        """Takes the points that an earlier run has scored; all edits are made again."""
        for batch in batches:
            self.take(batch)

    def served_by(self, data: EditDataModule) -> None:
        """The module serves the edits itself, one by one."""

    def told(self, metrics: Metrics) -> dict[str, Any]:
        """See `curve_summary`."""
        return curve_summary(self, metrics)

    def curve(self) -> dict[int, Outcome]:
        """Edits in place -> what was found of all of them then."""
        found = self._scored_points
        return {n: self._outcome([_without_point(found[n])]) for n in self.points}

    def when_made(self) -> dict[int, Outcome]:
        """Number of edits -> what was found of each of the first ones right after it was made."""
        return {n: self._outcome(self._made[:n]) for n in self.points}

    def left_out(self) -> dict[int, int]:
        """Edits in place -> number of probes that one of them makes invalid for another."""
        found = self._contradicted.items()
        return {n: sum(edit < n and other < n for (edit, _), other in found) for n in self.points}

    def curve_rows(self) -> list[dict[str, Any]]:
        """Lines of curve.parquet, point by point."""
        return [row for n in self.points for row in self._scored_points[n].rows]

    def _point(self, n: int, edits: Lasting) -> BatchResult:
        """All probes of the first n edits, asked with all of them in place."""
        parts = [
            self._all_judged(*self._read(batch.to(self.device)), edits)
            for batch in self.data.first("test", n, self.data.eval_batch_size)
        ]
        names = {name: None for part in parts for name in part.report}
        return BatchResult(
            edit_ids=tuple(edit for part in parts for edit in part.edit_ids),
            rows=[row | {IN_PLACE: n} for part in parts for row in part.rows],
            answer_seconds=sum(part.answer_seconds * len(part.edit_ids) for part in parts) / n,
            report={name: [v for part in parts for v in part.report[name]] for name in names},
        )

    def _all_judged(self, batch: EditBatch, state: PrefixState, edits: Lasting) -> BatchResult:
        """All probes of some edits, each row answered under all edits that are in place."""
        under = torch.zeros_like(batch.rows.edit_index)
        lines, answered = self._judged(batch, state, edits, seconds=0.0, under=under)
        told = edits.report() if isinstance(edits, Reporting) else {}
        return BatchResult(
            batch.edit_ids,
            [line | {"seconds": self._seconds[line["edit_id"]]} for line in self._valid(lines)],
            answered,
            {name: [of_edits[edit] for edit in batch.edit_ids] for name, of_edits in told.items()},
        )

    def _valid(self, lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Lines of probes that no other edit in place contradicts."""
        n, never = len(self._seconds), self.points[-1]
        for line in lines:
            if self._contradicted.get((line["edit_id"], line["probe"]), never) >= n:
                yield line

    def _outcome(self, results: Sequence[BatchResult]) -> Outcome:
        scores: dict[tuple[str, str], dict[int, float]] = {}
        for row in (row for result in results for row in result.rows):
            scores.setdefault((row["probe"], row["metric"]), {})[row["edit_id"]] = row["value"]
        return Outcome.of(results, scores, getattr(self.editor, "threshold", 0.5))


def curve_summary(module: SequentialModule, metrics: Metrics) -> dict[str, Any]:
    """What summary.json says of a sequential run besides the metrics of its last point.

    Args:
        module: after the run.
        metrics: the named metrics of an outcome.

    Returns:
        `curve` and `when_made`, each point -> metric -> mean (percent), interval and records: of
        all edits in place together, and of each edit right after it was made; `left_out`, each
        point -> number of probes that are not asked there.
    """

    def told(outcomes: Mapping[int, Outcome]) -> dict[str, Any]:
        return {
            str(n): {name: value.as_dict() for name, value in metrics(outcome).items()}
            for n, outcome in outcomes.items()
        }

    return {
        "curve": told(module.curve()),
        "when_made": told(module.when_made()),
        "left_out": {str(n): count for n, count in module.left_out().items()},
    }


def _without_point(result: BatchResult) -> BatchResult:
    """The lines of a point as those of edits.parquet."""
    rows = [{key: value for key, value in row.items() if key != IN_PLACE} for row in result.rows]
    return replace(result, rows=rows)
