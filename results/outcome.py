"""What an evaluation came to: the scores of its edits, gathered over batches and processes.

The scores live in one torchmetrics object, which keeps them on the module's device and synchronises
them; the lines of edits.parquet take their values from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import distributed, nn

from metrics.collection import Column, EditScores
from metrics.headlines import (
    BEFORE,
    PRE_VALUE,
    READ_BEFORE,
    SCOPE_PROBABILITY,
    Scores,
    hop_parts,
)
from metrics.name_first import is_beside
from metrics.scope import ScopeQuality
from results.partial import BatchResult, Line

Value = TypeVar("Value")
_SCORED = ("value", PRE_VALUE, *READ_BEFORE)  # of a line, kept in the scores
ABOUT_THE_EDIT, LEFT_ALONE = ("reliability", "generality"), ("locality", "stability")


@dataclass(frozen=True)
class Outcome:
    """An evaluation, of all processes.

    Attributes:
        lines: of edits.parquet, each (edit, probe, measure) once.
        scores: (probe, measure) -> edit id -> fraction.
        report: what the editor says of itself (means over edits), and the quality of its scope.
        seconds: edit id -> to make it.
        answer_seconds: edit id -> to answer all its probes.
    """

    lines: list[Line]
    scores: dict[Column, dict[int, float]]
    report: dict[str, float]
    seconds: dict[int, float]
    answer_seconds: dict[int, float]

    def with_hops(self, hops: Mapping[int, int]) -> dict[Column, dict[int, float]]:
        """The scores, and Portability's by number of hops where edits differ in it."""
        return self.scores | hop_parts(self.scores, hops)


class ScoredEdits(nn.Module):
    """Collects the batches of an evaluation.

    Args:
        columns: the (probe, measure) pairs that are scored.
        threshold: of a hard decision of the editor's scope, where it has one.
    """

    def __init__(self, columns: Sequence[Column], threshold: float = 0.5) -> None:
        super().__init__()
        self.scores, self.threshold = EditScores(columns), threshold
        self.batches: list[BatchResult] = []  # their lines without the values

    def add(self, batch: BatchResult) -> None:
        """Adds a batch; of an edit that was added before, the first scores stay."""
        self.scores.update(score for line in batch.lines for score in _scores_of(line))
        unscored = [{key: line[key] for key in line if key not in _SCORED} for line in batch.lines]
        self.batches.append(replace(batch, lines=unscored))

    def outcome(self, n_edits: int | None = None) -> Outcome:
        """Everything that was added in all processes; every process has to call this.

        Args:
            n_edits: of the edits with a lower number alone; None: of all.
        """
        gathered = [batch for batches in all_gather_objects(self.batches) for batch in batches]
        last = math.inf if n_edits is None else n_edits
        scores = {
            column: {edit: value for edit, value in of_edits.items() if edit < last}
            for column, of_edits in self.scores.compute().items()
        }
        lines: dict[tuple[int, str, str], Line] = {}
        answer_seconds: dict[int, float] = {}
        reports: dict[int, dict[str, float]] = {}
        for batch in gathered:
            for line in batch.lines:
                edit, probe, measure = line["edit_id"], line["probe"], line["metric"]
                if edit < last and (edit, probe, measure) not in lines:
                    lines[edit, probe, measure] = with_scores(line, scores)
            for index, edit in enumerate(batch.edit_ids):
                if edit < last:
                    answer_seconds.setdefault(edit, batch.answer_seconds)
                    of_edit = {name: values[index] for name, values in batch.report.items()}
                    reports.setdefault(edit, of_edit)
        ordered = [lines[key] for key in sorted(lines)]
        return Outcome(
            lines=ordered,
            scores={column: of_edits for column, of_edits in scores.items() if of_edits},
            report=_means(reports.values()) | _scope_quality(scores, self.threshold),
            seconds={line["edit_id"]: line["seconds"] for line in ordered},
            answer_seconds=dict(sorted(answer_seconds.items())),
        )


def with_scores(line: Line, scores: Scores) -> Line:
    """A line with what was scored of it: its value, and what the unedited model got and read."""
    edit, probe, measure = line["edit_id"], line["probe"], line["metric"]
    scored: Line = {"value": scores[probe, measure][edit]}
    scored[PRE_VALUE] = scores.get((probe, f"{measure}{BEFORE}"), {}).get(edit)
    for name in READ_BEFORE:
        flag = scores.get((probe, name), {}).get(edit)
        scored[name] = None if flag is None else bool(flag)
    return line | scored


def _scores_of(line: Line) -> Iterator[tuple[int, Column, float]]:
    """All that a line adds to the scores; what it does not tell it does not add."""
    edit, probe, measure = line["edit_id"], line["probe"], line["metric"]
    told = {measure: line["value"], f"{measure}{BEFORE}": line.get(PRE_VALUE)}
    told |= {name: line.get(name) for name in READ_BEFORE}
    for name, value in told.items():
        if value is not None:
            yield edit, (probe, name), float(value)


def all_gather_objects(value: Value) -> list[Value]:
    """The values of all processes in the order of their ranks; the value alone without others.

    Every process has to call this, and every process gets the same answer.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Value | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]


def _scope_quality(
    scores: Mapping[Column, Mapping[int, float]], threshold: float
) -> dict[str, float]:
    """Whether a scope tells the edit's own questions from those that it must leave alone."""
    probabilities = sorted(
        (edit, probe, value)
        for (probe, measure), of_edits in scores.items()
        if measure == SCOPE_PROBABILITY and probe.startswith(ABOUT_THE_EDIT + LEFT_ALONE)
        if not is_beside(probe)
        for edit, value in of_edits.items()
    )
    if not probabilities:
        return {}
    quality = ScopeQuality(threshold, sync_on_compute=False)  # of all processes already
    is_inside = [probe.startswith(ABOUT_THE_EDIT) for _, probe, _ in probabilities]
    quality.update(torch.tensor([p for _, _, p in probabilities]), torch.tensor(is_inside))
    values = {f"scope_{name}": float(value) for name, value in quality.compute().items()}
    return {name: value for name, value in values.items() if math.isfinite(value)}


def _means(reports: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Means over edits; an edit of which nothing is said counts as 0."""
    listed = list(reports)
    names = {name: None for report in listed for name in report}
    return {name: sum(report.get(name, 0.0) for report in listed) / len(listed) for name in names}
