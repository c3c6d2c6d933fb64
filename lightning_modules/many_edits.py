"""Edits that are in place together, made turn by turn: what protocol=sequential and =batch share.

    theta_t = theta_{t-1} + D_t(theta_{t-1}),    theta_0 the unedited model

Turn t is one update that teaches all of its edits; one that begins with the first edit is made on
the unedited model, every other on what the turns before it have changed. SERAC and IKE store edits
beside the model. At the points of the protocol the probes of all edits in place are asked, against
their targets and, for locality, against the answers of theta_0; those whose answer another edit in
place has changed are left out (`datamodules.contradicted`). No weight is written
(`EditableModel.deltas_in_place`), so all edits are gone with the values that they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch.utils.data import DataLoader

from datamodules.contradicted import contradicted
from datamodules.datamodule import EditDataModule
from datamodules.order import cut
from editors.base import Edit, Editor, EditsTogether, Lasting, Reporting
from editors.turn import Turn
from errors import ConfigError
from lightning_modules.evaluation import EvaluationModule, Metrics
from lightning_modules.scoring import Scoring, Unedited
from lightning_modules.teaching_rows import TeachingRows
from lightning_modules.turns import Contradictions, check_points, turns_of
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from results.folder import EDITS_IN_PLACE
from results.outcome import Outcome, ScoredEdits, with_scores
from results.partial import BatchResult, Line, PartialResults


class ManyEditsModule(EvaluationModule):
    """Makes edits turn by turn and scores all that are in place at some points.

    `outcome` is that of the last point. A point that an earlier run has scored is taken as it is.

    Args:
        data: set up; serves the edits, and their probes in batches of its `eval_batch_size`. It
            has the scenario, the tokens, and what the unedited model was asked before.
        scoring: what is measured.
        partial: where points that are done are kept; None: in memory alone.
        points: numbers of edits in place, ascending; the last one is the number of edits made.
        turn: edits in one update of a sequence; None: one.
        contradictions: `last` teaches of edits of one fact and update the last one alone, `error`
            refuses them.

    Attributes:
        curve: edits in place -> what all of them came to then.
        edits: all that are in place, as one; None before the first turn.

    Raises:
        ConfigError: the test split has fewer edits, the editor makes one edit at a time, or edits
            of a turn contradict each other.
    """

    protocol: ClassVar[str]  # as a user types it
    curve: dict[int, Outcome]

    def __init__(
        self,
        model: EditableModel,
        editor: Editor,
        data: EditDataModule,
        scoring: Scoring | None = None,
        partial: PartialResults | None = None,
        *,
        points: Sequence[int],
        turn: int | None = None,
        contradictions: str | None = "last",
    ) -> None:
        scenario = data.scenarios["test"]
        super().__init__(model, editor, scenario, data.encoder, scoring, partial, data.answered)
        check_points(points, data)
        self.data, self.points = data, tuple(points)
        self.turns = turns_of(self.protocol, points, turn)
        if max(map(len, self.turns)) > 1 and not isinstance(editor, EditsTogether):
            raise ConfigError(
                f"editor={editor.name} makes one edit at a time, and {max(map(len, self.turns))} "
                "in one update are asked for (editors.base.EditsTogether). Use "
                "protocol=sequential protocol.turn=1."
            )
        records = data.records("test")[: points[-1]]
        self._contradicted = contradicted(records, scenario)
        contradicting = Contradictions.of(records, self.turns)
        if contradictions == "error":
            contradicting.refuse(records, self._place)
        contradicting.log(records)
        self._not_taught = dict(zip(self.turns, contradicting.of_turns, strict=True))
        self.edits: Lasting | None = None
        self._seconds: dict[int, float] = {}  # of each edit in place: to make it
        self._number: dict[int, int] = {}  # of each edit in place: its number in `edits`
        self._in_turn: list[BatchResult] = []  # the newest turn, as far as it is scored
        self._at_points: dict[int, ScoredEdits] = {}  # edits in place -> their scores
        self._served: list[tuple[range, list[int]]] = []  # turn and edits of each batch

    def test_dataloader(self) -> DataLoader[EditBatch]:
        """The edits with their probes, turn by turn."""
        size = self.data.eval_batch_size
        self._served = [(turn, part) for turn in self.to_make() for part in cut(turn, size)]
        return self.data.batches("test", [part for _, part in self._served])

    def to_make(self) -> Sequence[range]:
        """The turns that are made: all, since every other rests on those before it."""
        return self.turns

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Scores some edits of a turn right after it, the turn made before its first ones."""
        turn, numbers = self._served[batch_idx]
        batch, state = self._prefix(batch)
        pre = self._unedited(batch, state)
        if numbers[0] == turn.start:
            self._make(turn, batch, state)
        assert self.edits is not None
        part = self._score_all(batch, state, self.edits, pre)
        self._in_turn.append(part)
        self.add_made(part)
        if numbers[-1] == turn[-1]:
            self._end(turn, self.edits)

    def add_made(self, part: BatchResult) -> None:
        """Takes note of edits that were scored right after their turn."""

    def compute_outcome(self) -> Outcome:
        """What the edits came to at the last point; sets `curve` besides."""
        self.curve = {n: self._at_points[n].outcome() for n in self.points}
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
        """Takes the points that an earlier run has scored."""
        del done, data
        for batch in batches:
            self.add(batch)

    def edit_source(self, data: EditDataModule) -> None:
        """The module serves the edits itself, turn by turn."""

    def summary_fields(self, metrics: Metrics) -> dict[str, Any]:
        """What summary.json says besides the metrics of the last point.

        Returns:
            `curve`, point -> metric -> mean (percent), interval and records; `left_out`, point ->
            number of probes that are not asked there; `not_taught`, point -> edit -> the later one
            of its fact and turn that was taught in its place.
        """
        return {
            "curve": self.by_point(self.curve, metrics),
            "left_out": {str(n): count for n, count in self.left_out().items()},
            "not_taught": {str(n): edits for n, edits in self.not_taught().items()},
        }

    @staticmethod
    def by_point(outcomes: Mapping[int, Outcome], metrics: Metrics) -> dict[str, Any]:
        """The metrics of some points as summary.json has them."""
        return {
            str(n): {metric: value.as_dict() for metric, value in metrics(outcome).items()}
            for n, outcome in outcomes.items()
        }

    def left_out(self) -> dict[int, int]:
        """Edits in place -> number of probes that one of them makes invalid for another."""
        pairs = self._contradicted.items()
        return {n: sum(edit < n and other < n for (edit, _), other in pairs) for n in self.points}

    def not_taught(self) -> dict[int, dict[str, int]]:
        """Edits in place -> those of them that were not taught -> the one that was instead."""
        at_points: dict[int, dict[str, int]] = {}
        in_place: dict[str, int] = {}
        for turn in self.turns:
            of_turn = {str(edit): by for edit, by in self._not_taught[turn].items()}
            in_place = in_place | of_turn if turn.start else of_turn
            at_points[turn.stop] = in_place
        return {n: at_points[n] for n in self.points}

    def curve_lines(self) -> list[Line]:
        """Lines of curve.parquet, point by point."""
        return [
            with_scores(line, self.curve[n].scores) | {EDITS_IN_PLACE: n}
            for n in self.points
            for batch in self._at_points[n].batches
            for line in batch.lines
        ]

    def _make(self, turn: range, batch: EditBatch, state: PrefixState) -> None:
        """Makes the edits of a turn, on top of the earlier ones.

        Args:
            turn: their numbers.
            batch: the first of them, with their probes.
            state: of its rows.
        """
        if not turn.start:  # what another point has in place goes before more is made
            self.edits, self._seconds, self._number = None, {}, {}
        earlier, instead = self.edits, self._not_taught[turn]
        taught = [edit for edit in turn if edit not in instead]
        make: Callable[[], Edit]
        if isinstance(self.editor, EditsTogether):
            together = self._turn(taught, batch, state)
            make = partial(self.editor.edit_together, self.model, together, earlier)
        else:
            make = partial(self.editor.edit, self.model, batch, state)
        started = self._now()
        with nullcontext() if earlier is None else earlier.in_place(self.model):
            edit = make()
        seconds = (self._now() - started) / len(turn)
        if not isinstance(edit, Lasting):
            raise ConfigError(
                f"editor={self.editor.name} makes edits that cannot stay in place, which "
                f"protocol={self.protocol} asks for (editors.base.Lasting). Use protocol=single."
            )
        self.edits = edit.after(earlier)
        self._seconds |= dict.fromkeys(turn, seconds)
        first = max(self._number.values(), default=-1) + 1
        self._number |= {number: place for place, number in enumerate(taught, start=first)}
        for number in sorted(instead, reverse=True):  # the one in its place may have one too
            self._number[number] = self._number[instead[number]]

    def _turn(self, taught: list[int], batch: EditBatch, state: PrefixState) -> Turn:
        """The edits of a turn, to be read by an editor.

        Args:
            taught: their numbers.
            batch: the first ones of the turn, with their probes.
            state: of its rows.
        """
        if taught == list(batch.edit_ids):  # their rows are all there
            part = (batch.teaching(), state.select(batch.edit_rows))
            return Turn(len(taught), lambda: (part,))
        parts = cut(taught, self.data.eval_batch_size)
        rows = TeachingRows(
            lambda first: self.data.batches("test", parts[first:], teaching=True),
            lambda served: self._prefix(served.to(self.device)),
            self.model.budget.kept,
        )
        return Turn(len(taught), rows)

    def _end(self, turn: range, edits: Lasting) -> None:
        """Scores the point that a turn has come to, if it is one that is not there yet."""
        parts, self._in_turn = self._in_turn, []
        n = turn.stop
        if n not in self.points or n in self._at_points:
            return
        point = self._score_point(n, edits) if turn.start else _joined(parts, n)
        self.add(point)
        if self.partial is not None:
            self.partial.add(point)

    def _score_point(self, n: int, edits: Lasting) -> BatchResult:
        """All probes of the first n edits, asked with all of them in place."""
        parts = []
        for served in self.data.batches("test", cut(range(n), self.data.eval_batch_size)):
            batch, state = self._prefix(served.to(self.device))
            parts.append(self._score_all(batch, state, edits, self._unedited(batch, state)))
        return _joined(parts, n)

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
                name: [self._reported(of_edits, edit) for edit in batch.edit_ids]
                for name, of_edits in report.items()
            },
        )

    def _reported(self, of_edits: Sequence[float], edit: int) -> float:
        """What edits in place say of one of them, or of all together."""
        return of_edits[self._number[edit] if len(of_edits) > 1 else 0]

    def _valid(self, lines: Iterable[Line]) -> Iterator[Line]:
        """Lines of probes that no other edit in place contradicts."""
        n, never = len(self._seconds), self.points[-1]
        for line in lines:
            if self._contradicted.get((line["edit_id"], line["probe"]), never) >= n:
                yield line

    def _place(self, edit: int) -> str:
        """Where the record of an edit stands."""
        return self.data.source.place("test", self.data.served["test"][edit])


def _joined(parts: Sequence[BatchResult], n: int) -> BatchResult:
    """The n edits of some batches as one point of the curve."""
    names = {name: None for part in parts for name in part.report}
    return BatchResult(
        edit_ids=tuple(edit for part in parts for edit in part.edit_ids),
        lines=[line | {EDITS_IN_PLACE: n} for part in parts for line in part.lines],
        answer_seconds=sum(part.answer_seconds * len(part.edit_ids) for part in parts) / n,
        report={name: [v for part in parts for v in part.report[name]] for name in names},
    )
