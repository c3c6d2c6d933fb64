"""The result of one evaluation as a table for the terminal."""

from rich.table import Table

from metrics.bootstrap import Estimate
from reporting.formats import EMPTY
from reporting.labels import arrow, editor_label, model_label
from reporting.paper import paper_columns
from results.folder import RunResult


def result_table(run: RunResult) -> Table:
    """All metrics of a run: the paper's first, the others below a line.

    Args:
        run: as `read_run` or `parse_summary` give it.

    Returns:
        A rich table: metric, mean in percent, 95 % interval, records.
    """
    cost = "" if run.seconds_per_edit is None else f", {run.seconds_per_edit:.3g} s per edit"
    table = Table(
        title=f"{editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario",
        caption=f"{run.data}, {run.n_edits} edits, seed {run.seed}{cost}",
    )
    table.add_column("Metric", no_wrap=True)
    for name in ("%", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    first = [name for name in paper_columns(run.scenario) if name in run.metrics]
    for name in first:
        _add(table, name, run.metrics[name], is_last=name == first[-1])
    for name, value in run.metrics.items():
        if name not in first:
            _add(table, name, value)
    return table


def _add(table: Table, name: str, value: Estimate, *, is_last: bool = False) -> None:
    mean = f"{value.mean:.1f}" if value.n else EMPTY
    interval = f"{value.low:.1f} to {value.high:.1f}" if value.n else EMPTY
    table.add_row(arrow(name), mean, interval, str(value.n), end_section=is_last)
