"""What closes the gap from a text edit to a picture, and at which price.

Three ways, each beside the same row as it is:

    name first             the unedited model names the picture, and the edited one is asked in text
                           (`evaluate.name_first`)
    transitive objective   the editor was trained with the pictures of its subjects in the loss
                           (`editor.questions=transitive`)
    joint                  one edit teaches the text and the picture question (scenario=joint)

A change is the mean of differences within records that were asked both ways, with its 95 %
interval. What should rise is Reliability and Specificity, what it costs is in Locality and
Stability. Of name first, which changes the question, it is also told what the edit itself adds over
the unedited model that is asked the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from metrics.bootstrap import Estimate
from metrics.headlines import is_difference
from metrics.name_first import CHAIN, CHAIN_GAIN, EDIT_GAIN
from metrics.seeds import difference_over_seeds
from reporting.clusters import Clusters, cluster_notes
from reporting.comparable import are_comparable, by_model
from reporting.entries import Entry, seeds_of
from reporting.floors import floor_notes
from reporting.formats import EMPTY, HIGHER, Cell, Column, ResultTable, Row, fewer_records
from reporting.labels import UNEDITED, editor_note, model_label
from reporting.overlap import marked_name
from reporting.pairs import difference_cell, entry_scores, interval_notes
from reporting.reading import marked_cell
from reporting.tables import points_cell

NAME_FIRST, OBJECTIVE, JOINT = "name first", "transitive objective", "joint"
REMEDIES = (NAME_FIRST, OBJECTIVE, JOINT)
AS_IT_IS = "as it is"
GAIN_BY_NAME = f"{NAME_FIRST}, gain of the edit"
_TRANSITIVE = "transitive"


class Shown(NamedTuple):
    """A column: a metric of a scenario, and whether it is what a remedy is for or its price."""

    title: str
    scenario: str
    metric: str
    is_price: bool = False


IN_TEXT = Shown("Reliability, in text", "unimodal", "Reliability", is_price=True)
SEEN = Shown("Reliability_S", _TRANSITIVE, "Reliability_S")
SPECIFIC = Shown("Specificity_S", _TRANSITIVE, "Specificity_S")
SHOWN = (
    SEEN,
    SPECIFIC,
    Shown("Reliability_U", _TRANSITIVE, "Reliability_U"),
    Shown("Specificity_U", _TRANSITIVE, "Specificity_U"),
    IN_TEXT,
    Shown("Locality_T", _TRANSITIVE, "Locality_T", is_price=True),
    Shown("Locality_I", _TRANSITIVE, "Locality_I", is_price=True),
    Shown("Stability", _TRANSITIVE, "Stability", is_price=True),
)

Asked = Mapping[str, Entry]  # scenario -> the row there


@dataclass(frozen=True)
class Remedied:
    """One row and what changes it.

    Attributes:
        asked: the row as it is, by scenario; transitive is among them.
        changes: remedy -> column -> with the remedy minus as it is; a column that the remedy does
            not change, or that was not asked, is absent, as is a remedy that was not run.
        by_name: column -> of an edit that is asked name first, its gain over the unedited model
            that is asked so; empty where it was not, and of the unedited model.
    """

    asked: Asked
    changes: Mapping[str, Mapping[Shown, Estimate]]
    by_name: Mapping[Shown, Estimate]

    @property
    def entry(self) -> Entry:
        return self.asked[_TRANSITIVE]


def remedied(entries: Sequence[Entry]) -> list[Remedied]:
    """Every row that some remedy was run of.

    The unedited model is among them where it was asked by a name: what that alone changes is no
    price of an edit.

    Args:
        entries: of any scenarios and models, of single edits.

    Returns:
        By model and editor. Runs that differ from the row in data, scoring or weights of the model
        are passed over.

    Raises:
        DataError: a table cannot be read.
    """
    found = []
    for _, of_model in by_model(entries):
        rows: dict[tuple[str, str], dict[str, Entry]] = {}
        for entry in of_model:
            rows.setdefault((entry.editor, entry.name), {})[entry.scenario] = entry
        for entry in of_model:
            if entry.scenario != _TRANSITIVE or is_transitive(entry):
                continue
            editor, asked = entry.editor, rows[entry.editor, entry.name]
            others = [
                row
                for (other, _), row in rows.items()
                if other == editor and _TRANSITIVE in row and is_transitive(row[_TRANSITIVE])
            ]
            of_row = REMEDIES if editor != UNEDITED else (NAME_FIRST,)
            changes = {remedy: dict(_changes(remedy, asked, others)) for remedy in of_row}
            told = {remedy: of_remedy for remedy, of_remedy in changes.items() if of_remedy}
            by_name = {} if editor == UNEDITED else dict(_gains_by_name(entry))
            found += [Remedied(asked, told, by_name)] if told else []
    return found


def is_transitive(entry: Entry) -> bool:
    """Whether the editor of a row was trained with the transitive objective."""
    editor = entry.first.settings.get("editor")
    return isinstance(editor, Mapping) and editor.get("questions") == _TRANSITIVE


def _changes(
    remedy: str, asked: Asked, trained_so: Sequence[Asked]
) -> Iterator[tuple[Shown, Estimate]]:
    for shown in SHOWN:
        before = asked.get(shown.scenario)
        if before is None:
            continue
        if remedy == NAME_FIRST:
            change = _named_first(before, shown.metric)
        else:
            after = _with(remedy, shown, asked, trained_so)
            alike = after is not None and are_comparable([before, after[0]])
            change = _difference(after, (before, shown.metric)) if after and alike else None
        if change is not None:
            yield shown, change


def _with(
    remedy: str, shown: Shown, asked: Asked, trained_so: Sequence[Asked]
) -> tuple[Entry, str] | None:
    """Where a column stands under a remedy: the row and the metric; None where it was not run."""
    if remedy == OBJECTIVE:
        entry = trained_so[0].get(shown.scenario) if len(trained_so) == 1 else None
        return None if entry is None else (entry, shown.metric)
    entry = asked.get(JOINT)
    metric = f"{shown.metric}_T" if shown is IN_TEXT else shown.metric
    return None if entry is None else (entry, metric)


def _named_first(entry: Entry, metric: str) -> Estimate | None:
    """By way of a name minus at once; None where it was not asked so."""
    gains = entry_scores(entry, f"{metric}_{CHAIN_GAIN}")
    if gains.empty:  # a specificity, which is a difference already, has no such gain
        return _difference((entry, f"{metric}{CHAIN}"), (entry, metric))
    return _estimated(entry, gains, None)


def _gains_by_name(entry: Entry) -> Iterator[tuple[Shown, Estimate]]:
    """By way of a name minus the unedited model by the same way."""
    for shown in SHOWN:
        gains = entry_scores(entry, f"{shown.metric}_{EDIT_GAIN}")
        if shown.scenario == entry.scenario and not gains.empty:
            yield shown, _estimated(entry, gains, None)


def _difference(after: tuple[Entry, str], before: tuple[Entry, str]) -> Estimate | None:
    """The first minus the second over the records of both; None without any."""
    first, second = entry_scores(*after), entry_scores(*before)
    shared = first.index.intersection(second.index)
    if not len(shared):
        return None
    seeds = [[seeds_of(run) for run in entry.runs] for entry, _ in (after, before)]
    return _estimated(
        before[0], first.loc[shared], second.loc[shared], same_seeds=seeds[0] == seeds[1]
    )


def _estimated(
    entry: Entry, first: pd.DataFrame, second: pd.DataFrame | None, *, same_seeds: bool = False
) -> Estimate:
    """Scores, a line a record and a column a seed, minus others or nothing, with their interval."""
    nothing = np.zeros((1, len(first)))
    return difference_over_seeds(
        first.to_numpy().T,
        nothing if second is None else second.to_numpy().T,
        seed=entry.first.seed,
        same_seeds=same_seeds,
        clusters=Clusters(entry.first).of(first.index),
    )


def remedy_table(found: Sequence[Remedied]) -> ResultTable | None:
    """Rows as they are, and below each what the remedies change; None without any."""
    if not found:
        return None
    rows = [row for one in found for row in _rows(one)]
    entries = [one.entry for one in found]
    columns = tuple(Column(shown.title, HIGHER) for shown in SHOWN)
    notes = (
        f"{AS_IT_IS.capitalize()}: the figures of the row, in percent (Specificity in points). "
        "Below: with the remedy minus as it is, in points, paired over the n records that have "
        "both, with the 95 % interval; bold: it excludes 0. "
        f"{NAME_FIRST.capitalize()}: the unedited model names the picture, and its words stand in "
        f"the text question; {GAIN_BY_NAME}: minus the unedited model that is asked the same. "
        f"{OBJECTIVE.capitalize()}: the same method, trained with its subjects' pictures in the "
        f"loss. {JOINT.capitalize()}: one edit of the text and the question about the seen "
        "picture; the other picture (_U) is not taught. "
        f"{EMPTY}: not asked, or the same by definition.",
        *interval_notes(len(entry.runs) for entry in entries),
        *cluster_notes(entries),
        *fewer_records(rows, columns),
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        *editor_note(entry.editor for entry in entries),
    )
    heads = ("Model", "Editor", "What changes")
    return ResultTable("What closes the gap", heads, columns, tuple(rows), notes)


def _rows(one: Remedied) -> Iterator[Row]:
    heads = (model_label(one.entry.model), marked_name(one.entry))
    seeds = len(one.entry.runs)
    cells = tuple(_as_it_is(one.asked, shown) for shown in SHOWN)
    yield Row((*heads, AS_IT_IS), str(one.entry.n_edits), cells, seeds=seeds)
    for remedy, changes in one.changes.items():
        n = max(change.n for change in changes.values())
        of_remedy = tuple(difference_cell(changes.get(shown)) for shown in SHOWN)
        yield Row((*heads, remedy), str(n), of_remedy, seeds=seeds)
        if remedy == NAME_FIRST and one.by_name:
            n = max(gain.n for gain in one.by_name.values())
            gains = tuple(difference_cell(one.by_name.get(shown)) for shown in SHOWN)
            yield Row((*heads, GAIN_BY_NAME), str(n), gains, seeds=seeds)


def _as_it_is(asked: Asked, shown: Shown) -> Cell:
    entry = asked.get(shown.scenario)
    if entry is not None and is_difference(shown.metric):
        return points_cell(entry.metrics.get(shown.metric))
    return marked_cell(entry, shown.metric)
