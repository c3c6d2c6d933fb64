"""Many edits in place: each metric over the number of edits, as a table.

A run with `protocol=sequential` makes its edits on top of each other. At some points the probes of
all edits made so far are asked again, so that a curve shows what later edits undo. One with
`protocol=batch` makes the edits of each point in one update.
"""

from collections.abc import Mapping, Sequence

from errors import DataError
from metrics.bootstrap import Estimate, estimates
from metrics.headlines import headlines_of, variant_of
from metrics.seeds import Measured, over_seeds
from reporting.clusters import Clusters, cluster_notes, target_notes
from reporting.comparable import check_comparable, data_and_seeds, in_order, measure_notes
from reporting.entries import Entry
from reporting.formats import ResultTable, Row, fewer_records, metric_column
from reporting.labels import editor_note, model_label, together_label
from reporting.origins import origin_notes
from reporting.overlap import marked_name, overlap_notes
from reporting.pairs import hops_of, scores_by_record
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
_COLUMNS = ("edit_id", "probe", "metric", "value", EDITS_IN_PLACE)


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
    long = read_rows(path, CURVE_SCHEMA, _COLUMNS)
    headlines = headlines_of(run.scenario, **variant_of(run.settings))
    hops, clusters, curve = hops_of(run.folder), Clusters(run), {}
    for edits_in_place, rows in long.groupby(EDITS_IN_PLACE):  # ascending
        scores = scores_by_record(rows, headlines, hops)
        columns = [scores[name].dropna() for name in scores]
        values = [column.to_numpy() for column in columns]
        labels = [clusters.of(column.index) for column in columns]
        of_metrics = estimates(values, seed=run.seed, clusters=labels)
        curve[int(str(edits_in_place))] = dict(zip(map(str, scores), of_metrics, strict=True))
    return curve


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
        for edits_in_place, metrics in curve_over_seeds(entry).items():
            heads = (model_label(entry.model), marked_name(entry), f"{edits_in_place:,}")
            n = max((value.n for value in metrics.values()), default=0)
            cells = tuple(metric_cell(metrics.get(name)) for name in names)
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
