"""The result of one evaluation as two tables for the terminal."""

from rich.table import Table

from reporting.beside import BESIDE, beside_lines
from reporting.clusters import RECORD, drawn_over, target_warning
from reporting.labels import UNEDITED, editor_label, model_label
from reporting.origins import licence_phrase
from reporting.overlap import overlap_phrase
from reporting.paper import paper_columns
from reporting.tables import left_out_phrase, metric_lines
from results.files import TABLE
from results.folder import RunResult

LEAKS = ("Leak",)  # shown beside the paper's columns where gains are


def beside_table(run: RunResult) -> Table | None:
    """Gains over the unedited model of these columns, and their parts by what that one read.

    Returns:
        A rich table; None for the unedited model in text and for results that do not say.
    """
    names = [*paper_columns(run.scenario), *LEAKS]
    lines = beside_lines(run, [name for name in names if name in run.metrics])
    if not lines or (run.editor == UNEDITED and run.scenario == "unimodal"):
        return None
    by_picture = "" if run.scenario == "unimodal" else ", and by what it read of the pictures"
    table = Table(title=f"Beside the unedited model{by_picture}")
    table.add_column(BESIDE[0], no_wrap=True)
    for title in BESIDE[1 : len(lines[0])]:
        table.add_column(title, justify="right")
    for line in lines:
        table.add_row(*line)
    return table


def result_table(run: RunResult) -> Table:
    """The paper's columns of a run, one a line; a last line names the file that has the rest.

    Returns:
        A rich table: metric, mean in percent, 95 % interval, records.
    """
    cost = "" if run.seconds_per_edit is None else f", {run.seconds_per_edit:.3g} s per edit"
    names = [name for name in paper_columns(run.scenario) if name in run.metrics]
    further = len(run.metrics) - len(names)
    table = Table(
        title=f"{editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario",
        caption=f"{run.data}, {run.n_edits} edits{left_out_phrase(run)}, seed {run.seed}{cost}"
        + (f"\n{licences}" if (licences := licence_phrase(run)) else "")
        + (f"\nOverlap: {told[2:]}" if (told := overlap_phrase(run)) else "")
        + (f"\n{warning}" if (warning := target_warning(run)) else "")
        + (f"\n{further} more metrics: {TABLE}" if further else ""),
    )
    table.add_column("Metric", no_wrap=True)
    interval = "95 % interval" if run.cluster == RECORD else f"95 % over {drawn_over([run])}"
    for title in ("%", interval, "n"):
        table.add_column(title, justify="right", no_wrap=True)
    for line in metric_lines(run, names):
        table.add_row(*line)
    return table
