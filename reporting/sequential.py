"""Edits that stay in place: each metric over the number of edits, as a table.

A run with `protocol=sequential` makes its edits on top of each other. At some points the probes of
all edits made so far are asked again, so that a curve shows what later edits undo.
"""

from collections.abc import Mapping, Sequence

from errors import DataError
from metrics.bootstrap import Estimate, estimates
from metrics.headlines import headlines_of, variant_of
from reporting.comparable import check_comparable, in_order
from reporting.formats import ResultTable, Row, fewer_records, metric_column
from reporting.labels import editor_label, editor_note, model_label
from reporting.pairs import hops_of, scores_by_record
from reporting.paper import paper_columns
from reporting.tables import metric_cell
from results.files import CURVE
from results.folder import CURVE_SCHEMA, EDITS_IN_PLACE, RunResult, read_rows

Curve = Mapping[int, Mapping[str, Estimate]]

_COLUMNS = ("edit_id", "probe", "metric", "value", EDITS_IN_PLACE)


def curve_of(run: RunResult) -> Curve:
    """The named metrics of a sequential run by number of edits in place.

    Args:
        run: with protocol "sequential".

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
            f"{run.folder} is a run with protocol=sequential but has no curve, neither in its "
            f"summary nor as {CURVE}; evaluate again with evaluate.py into a new folder."
        )
    long = read_rows(path, CURVE_SCHEMA, _COLUMNS)
    headlines = headlines_of(run.scenario, **variant_of(run.settings))
    hops, curve = hops_of(run.folder), {}
    for edits_in_place, rows in long.groupby(EDITS_IN_PLACE):  # ascending
        scores = scores_by_record(rows, headlines, hops)
        columns = [scores[name].dropna().to_numpy() for name in scores]
        metrics = zip(map(str, scores), estimates(columns, seed=run.seed), strict=True)
        curve[int(str(edits_in_place))] = dict(metrics)
    return curve


def sequential_table(runs: Sequence[RunResult]) -> ResultTable:
    """The paper's columns of sequential runs at every point of their curves.

    Args:
        runs: of one scenario, with protocol "sequential", of any models.

    Returns:
        A row per model, editor and number of edits in place; n counts the edits that were asked.

    Raises:
        DataError: the runs cannot share a table, or one of them has no curve.
    """
    check_comparable(runs)
    first, names, rows = runs[0], paper_columns(runs[0].scenario), []
    for run in in_order(runs):
        for edits_in_place, metrics in curve_of(run).items():
            heads = (model_label(run.model), editor_label(run.editor), f"{edits_in_place:,}")
            n = max((value.n for value in metrics.values()), default=0)
            cells = tuple(metric_cell(metrics.get(name)) for name in names)
            rows.append(Row(heads, str(n), cells))
    columns = tuple(metric_column(name) for name in names)
    notes = (
        "Edits stay in place; after each number of them the probes of all edits made so far are "
        "asked again.",
        *fewer_records(rows, columns),
        *editor_note(run.editor for run in runs),
    )
    title = (
        f"{first.scenario.capitalize()} scenario, edits in sequence, data {first.data}, seed "
        f"{first.seed} (percent)"
    )
    return ResultTable(title, ("Model", "Editor", "Edits in place"), columns, tuple(rows), notes)
