"""Edits that stay in place, one made after the other: protocol=sequential.

    theta_i = theta_{i-1} + D_i(theta_{i-1}),    theta_0 the unedited model

Edit i is made on the model that the edits before it have changed; SERAC and IKE store it beside
them. At every point n of the protocol the probes of all n edits are asked again, against their
targets and, for locality, against the answers of theta_0; those whose answer another edit in place
has changed are left out (`datamodules.contradicted`). No weight is written
(`EditableModel.deltas_in_place`), so all edits are gone with the values that they are.
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
from datamodules.prompt_encoder import PromptEncoder
from datamodules.scenarios import Scenario
from editors.base import Editor, Lasting, Reporting
from errors import ConfigError
from lightning_modules.evaluation import EvaluationModule, Metrics
from lightning_modules.scoring import Scoring, Unedited
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from results.folder import EDITS_IN_PLACE
from results.outcome import Outcome, ScoredEdits, with_scores
from results.partial import BatchResult, Line, PartialResults


def check_points(points: Sequence[int], data: EditDataModule) -> None:
    """Refuses points of the curve that the test split has too few edits for.

    Args:
        points: numbers of edits in place, ascending.
        data: set up, so that facts which the unedited model does not know are left out already.

    Raises:
        ConfigError: naming both numbers.
    """
    n_edits, known = data.n_edits("test"), data.known.get("test")
    if n_edits < points[-1]:
        of = "" if known is None else f" of {known.candidates} whose facts the unedited model knows"
        raise ConfigError(
            f"protocol.n={','.join(map(str, points))} makes {points[-1]} edits one after the "
            f"other, and the test split of data={data.source.name} has {n_edits}{of}. Give no "
            f"number above {n_edits}, or more data."
        )


class SequentialModule(EvaluationModule):
    """Makes edits one after the other and scores all of them at some points.

    `outcome` is that of the last point. A point that an earlier run has scored is taken as it is;
    the edits themselves are stored nowhere and made again.

    Args:
        partial: where points that are done are kept; None: in memory alone.
        answered: what the unedited model was asked before -> whether it answered right.
        data: serves the edits one by one, and their probes in batches of its `eval_batch_size`.
        points: numbers of edits in place, ascending; the last one is the number of edits made.

    Attributes:
        curve: edits in place -> what all of them came to then.
        when_made: number of edits -> what each of the first ones came to right after it was made.

    Raises:
        ConfigError: the test split has fewer edits.
    """

    curve: dict[int, Outcome]
    when_made: dict[int, Outcome]

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        scenario: Scenario,
        encoder: PromptEncoder,
        scoring: Scoring | None = None,
        partial: PartialResults | None = None,
        answered: Mapping[Any, bool] | None = None,
        *,
        data: EditDataModule,
        points: Sequence[int],
    ) -> None:
        super().__init__(model, editor, scenario, encoder, scoring, partial, answered)
        check_points(points, data)
        self.data, self.points = data, tuple(points)
        self._contradicted = contradicted(data.records("test")[: points[-1]], scenario)
        self.edits: Lasting | None = None  # in place
        self._seconds: list[float] = []  # by edit: to make it
        self._at_points: dict[int, ScoredEdits] = {}  # edits in place -> their scores

    def test_dataloader(self) -> DataLoader[EditBatch]:
        """The edits, one by one."""
        return self.data.first("test", self.points[-1], 1)

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Makes one edit on top of the earlier ones; at a point, scores all of them."""
        del batch_idx
        batch, state = self._prefix(batch)
        pre = self._unedited(batch, state)
        started = self._now()
        earlier = self.edits
        with nullcontext() if earlier is None else earlier.in_place(self.model):
            edit = self.editor.edit(self.model, batch, state)
        self._seconds.append(self._now() - started)
        if not isinstance(edit, Lasting):
            raise ConfigError(
                f"editor={self.editor.name} makes edits that cannot stay in place, which "
                "protocol=sequential asks for (editors.base.Lasting). Use protocol=single."
            )
        self.edits = edit.after(earlier)
        self.scored.add(self._score_all(batch, state, self.edits, pre))
        n = len(self._seconds)
        if n in self.points and n not in self._at_points:
            point = self._score_point(n, self.edits)
            self.add(point)
            if self.partial is not None:
                self.partial.add(point)

    def compute_outcome(self) -> Outcome:
        """What the edits came to at the last point; sets `curve` and `when_made` besides."""
        self.curve = {n: self._at_points[n].outcome() for n in self.points}
        self.when_made = {n: self.scored.outcome(n) for n in self.points}
        return self.curve[self.points[-1]]

    def add(self, result: BatchResult) -> None:
        """Counts a point of the curve, just scored or from an earlier run."""
        scored = self.new_scored()
        lines = [
            {key: v for key, v in line.items() if key != EDITS_IN_PLACE} for line in result.lines
        ]
        scored.add(replace(result, lines=lines))
        self._at_points[len(result.edit_ids)] = scored

    def resume(
        self, batches: Sequence[BatchResult], done: frozenset[int], data: EditDataModule
    ) -> None:
        """Takes the points that an earlier run has scored; all edits are made again."""
        del done, data
        for batch in batches:
            self.add(batch)

    def edit_source(self, data: EditDataModule) -> None:
        """The module serves the edits itself, one by one."""

    def summary_fields(self, metrics: Metrics) -> dict[str, Any]:
        """What summary.json says besides the metrics of the last point.

        Returns:
            `curve` and `when_made`, each point -> metric -> mean (percent), interval and records;
            `left_out`, each point -> number of probes that are not asked there.
        """
        return {
            name: {
                str(n): {metric: value.as_dict() for metric, value in metrics(outcome).items()}
                for n, outcome in outcomes.items()
            }
            for name, outcomes in (("curve", self.curve), ("when_made", self.when_made))
        } | {"left_out": {str(n): count for n, count in self.left_out().items()}}

    def left_out(self) -> dict[int, int]:
        """Edits in place -> number of probes that one of them makes invalid for another."""
        pairs = self._contradicted.items()
        return {n: sum(edit < n and other < n for (edit, _), other in pairs) for n in self.points}

    def curve_lines(self) -> list[Line]:
        """Lines of curve.parquet, point by point."""
        return [
            with_scores(line, self.curve[n].scores) | {EDITS_IN_PLACE: n}
            for n in self.points
            for batch in self._at_points[n].batches
            for line in batch.lines
        ]

    def _score_point(self, n: int, edits: Lasting) -> BatchResult:
        """All probes of the first n edits, asked with all of them in place."""
        parts = []
        for served in self.data.first("test", n, self.data.eval_batch_size):
            batch, state = self._prefix(served.to(self.device))
            parts.append(self._score_all(batch, state, edits, self._unedited(batch, state)))
        names = {name: None for part in parts for name in part.report}
        return BatchResult(
            edit_ids=tuple(edit for part in parts for edit in part.edit_ids),
            lines=[line | {EDITS_IN_PLACE: n} for part in parts for line in part.lines],
            answer_seconds=sum(part.answer_seconds * len(part.edit_ids) for part in parts) / n,
            report={name: [v for part in parts for v in part.report[name]] for name in names},
        )

    def _score_all(
        self, batch: EditBatch, state: PrefixState, edits: Lasting, pre: Unedited
    ) -> BatchResult:
        """All probes of some edits, each row answered under all edits that are in place."""
        under = torch.zeros_like(batch.rows.edit_index)
        lines, answer_seconds = self._score(batch, state, edits, pre, seconds=0.0, under=under)
        report = edits.report() if isinstance(edits, Reporting) else {}
        return BatchResult(
            batch.edit_ids,
            [line | {"seconds": self._seconds[line["edit_id"]]} for line in self._valid(lines)],
            answer_seconds,
            {
                name: [of_edits[edit] for edit in batch.edit_ids]
                for name, of_edits in report.items()
            },
        )

    def _valid(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Lines of probes that no other edit in place contradicts."""
        n, never = len(self._seconds), self.points[-1]
        for line in lines:
            if self._contradicted.get((line["edit_id"], line["probe"]), never) >= n:
                yield line
