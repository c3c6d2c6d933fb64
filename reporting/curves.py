"""Many edits in place: each metric over the number of edits, as a table.

A run with `protocol=sequential` makes its edits on top of each other. At some points the probes of
all edits made so far are asked again, so that a curve shows what later edits undo. One with
`protocol=batch` makes the edits of each point in one update. Figures of a point that are not told
from a floor are marked as those of single edits are (`reporting.floors`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from errors import DataError
from metrics.bootstrap import Estimate, estimates
from metrics.headlines import (
    PRE_VALUE,
    SPECIFICITY,
    Headline,
    floors_of,
    headlines_of,
    variant_of,
)
from metrics.seeds import Measured, over_seeds
from reporting.clusters import Clusters, cluster_notes, target_notes
from reporting.comparable import check_comparable, data_and_seeds, in_order, measure_notes
from reporting.entries import Entry
from reporting.floors import floor_marks_of, floor_notes
from reporting.formats import NOT_SPECIFIC, ResultTable, Row, fewer_records, metric_column
from reporting.kept import kept_while_unchanged
from reporting.labels import UNEDITED, editor_note, model_label, together_label
from reporting.origins import origin_notes
from reporting.overlap import marked_name, overlap_notes
from reporting.pairs import hops_of, scored_headlines, scores_by_record
from reporting.paper import paper_columns
from reporting.tables import left_out_notes, metric_cell, seed_notes
from results.files import CURVE
from results.folder import (
    BATCH,
    CURVE_SCHEMA,
    EDITS_IN_PLACE,
    SEQUENTIAL,
    RunResult,
    read_rows,
)

Curve = Mapping[int, Mapping[str, Estimate]]

_HOW = {
    SEQUENTIAL: "Edits stay in place; after each number of them the probes of all edits made so "
    "far are asked again.",
    BATCH: "The edits of each number are one update of the unedited model, after which the probes "
    "of all of them are asked.",
}
_COLUMNS = ("edit_id", "probe", "metric", "value", PRE_VALUE, EDITS_IN_PLACE)


def curve_of(run: RunResult) -> Curve:
    """The named metrics of a run by number of edits in place.

    Args:
        run: with protocol "sequential" or "batch".

    Returns:
        The numbers of `summary.json`; where it has none, those of `curve.parquet`. In percent, by
        ascending number of edits.

    Raises:
        DataError: the folder has neither, or the table cannot be read.
    """
    if run.curve:
        return run.curve
    path = run.folder / CURVE
    if not path.is_file():
        raise DataError(
            f"{run.folder} is a run with protocol={run.protocol_name} but has no curve, neither in "
            f"its summary nor as {CURVE}; evaluate again with evaluate.py into a new folder."
        )
    headlines = {line.name for line in headlines_of(run.scenario, **variant_of(run.settings))}
    clusters, curve = Clusters(run), {}
    for edits_in_place, scores in curve_scores(run).items():
        names = [name for name in map(str, scores) if name in headlines]
        columns = [scores[name].dropna() for name in names]
        values = [column.to_numpy() for column in columns]
        labels = [clusters.of(column.index) for column in columns]
        of_metrics = estimates(values, seed=run.seed, clusters=labels)
        curve[edits_in_place] = dict(zip(names, of_metrics, strict=True))
    return curve


def curve_scores(run: RunResult) -> Mapping[int, pd.DataFrame]:
    """The scores of each record at every point of a curve.

    Returns:
        Number of edits in place, ascending -> a table as `reporting.pairs.record_scores` has it,
        gains included, which are over the unedited model at every point; nothing if the folder has
        no `curve.parquet`. Not to be changed: it is kept.

    Raises:
        DataError: the table cannot be read.
    """
    path = run.folder / CURVE
    if not path.is_file():
        return {}
    return _read_points(path, scored_headlines(run))


@kept_while_unchanged(maxsize=32)
def _read_points(path: Path, headlines: tuple[Headline, ...]) -> Mapping[int, pd.DataFrame]:
    """The table and the figure ask for the same scores."""
    long, hops = read_rows(path, CURVE_SCHEMA, _COLUMNS), hops_of(path.parent)
    try:
        return {
            int(str(edits_in_place)): scores_by_record(rows, headlines, hops)
            for edits_in_place, rows in long.groupby(EDITS_IN_PLACE)  # ascending
        }
    except ValueError as error:
        raise DataError(
            f"{path} has two scores of one edit, probe and measure at a point "
            f"({error}); evaluate again with evaluate.py into a new folder."
        ) from error


def curve_marks(entry: Entry, points: Iterable[int]) -> dict[int, dict[str, str]]:
    """Which figures of a curve are not told from a floor, as of single edits.

    The floors of a point are those of its edits and probes: the unedited model, without any edit,
    and what the new answers score about entities of the same type with all edits in place.

    Args:
        entry: a row with many edits in place.
        points: numbers of edits in place.

    Returns:
        Point -> metric -> its marks (`reporting.floors`); nothing of a floor that no record has
        there, and of runs without a `curve.parquet`.

    Raises:
        DataError: a table cannot be read.
    """
    names = paper_columns(entry.scenario)
    return {n: floor_marks_of(entry, names, partial(_scores_at, n)) for n in points}


def _scores_at(n: int, run: RunResult) -> pd.DataFrame:
    return curve_scores(run).get(n, pd.DataFrame())


def curve_over_seeds(entry: Entry) -> dict[int, dict[str, Measured]]:
    """The curve of a row: `curve_of` its run, or point by point the mean over the seeds' runs.

    Points that not all runs have are left out.

    Raises:
        DataError: as `curve_of`.
    """
    curves = [curve_of(run) for run in entry.runs]
    points = [n for n in curves[0] if all(n in curve for curve in curves)]
    return {
        n: {
            name: over_seeds([curve[n][name] for curve in curves if name in curve[n]])
            for name in dict.fromkeys(name for curve in curves for name in curve[n])
        }
        for n in points
    }


def curve_table(entries: Sequence[Entry]) -> ResultTable:
    """The paper's columns of runs at every point of their curves.

    Args:
        entries: of one scenario and protocol with many edits in place, of any models.

    Returns:
        A row per model, name and number of edits in place; n counts the edits that were asked.

    Raises:
        DataError: the rows cannot share a table, or one of them has no curve.
    """
    check_comparable(entries)
    names, rows = paper_columns(entries[0].scenario), []
    for entry in in_order(entries):
        curve = curve_over_seeds(entry)
        marks = curve_marks(entry, curve)
        for edits_in_place, metrics in curve.items():
            heads = (model_label(entry.model), marked_name(entry), f"{edits_in_place:,}")
            n = max((value.n for value in metrics.values()), default=0)
            of_point = marks[edits_in_place]
            cells = tuple(
                replace(metric_cell(metrics.get(name)), floor=of_point.get(name, ""))
                for name in names
            )
            rows.append(Row(heads, str(n), cells, seeds=len(entry.runs)))
    columns = tuple(metric_column(name) for name in names)
    notes = (
        _HOW[entries[0].protocol_name],
        *_turn_notes(entries),
        *_not_taught_notes(entries),
        *seed_notes(entries),
        *cluster_notes(entries),
        *target_notes(entries),
        *fewer_records(rows, columns),
        *floor_notes(cell.floor for row in rows for cell in row.cells),
        *_floorless_notes(entries),
        *measure_notes(entries),
        *left_out_notes(entries),
        *origin_notes(entries),
        *overlap_notes(entries),
        *editor_note(entry.editor for entry in entries),
    )
    title = (
        f"{entries[0].scenario.capitalize()} scenario, "
        f"edits{together_label(entries[0].protocol_name)}, "
        f"{data_and_seeds(entries)} (percent)"
    )
    return ResultTable(title, ("Model", "Editor", "Edits in place"), columns, tuple(rows), notes)


def _turn_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """How many edits of a sequence are one update, where they are more than one."""
    turns = sorted({(entry.first.protocol or {}).get("turn") or 1 for entry in entries})
    if turns == [1]:
        return ()
    return (
        f"Edits are made in turns of {' and '.join(map(str, turns))}, each turn in one update.",
    )


def _floorless_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A note where nothing is left to tell an answer from one that everybody gets.

    In a small world the entities that others are compared with are edited too, sooner or later.
    """
    floors = {
        floors_of(name).get(SPECIFICITY.lower()) for name in paper_columns(entries[0].scenario)
    }
    points = {
        n
        for entry in entries
        if entry.editor != UNEDITED
        for n, scores in curve_scores(entry.first).items()
        if len(scores) > 1 and not floors.intersection(scores)
    }
    if not points:
        return ()
    return (
        f"With {', '.join(f'{n:,}' for n in sorted(points))} edits in place no record has a "
        "question about an entity of the same type that other edits leave alone: no figure can be "
        f"told from an answer that everybody gets, and none is marked {NOT_SPECIFIC}.",
    )


def _not_taught_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A note where edits were not taught, since others of their update contradict them."""
    counts = {
        f"{len(edits):,} of {n:,}"
        for entry in entries
        for n, edits in (entry.first.not_taught or {}).items()
        if edits
    }
    if not counts:
        return ()
    return (
        f"Not taught, since a later edit of the same update gives the same fact another answer: "
        f"{'; '.join(sorted(counts))} edits.",
    )
