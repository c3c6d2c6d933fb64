"""The result of one evaluation as tables for the terminal."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from reporting.beside import ABOVE, BY_PICTURE, above_lines, part_lines
from reporting.by_name import BY_NAME, by_name_lines
from reporting.clusters import RECORD, drawn_over, target_warning
from reporting.entries import Entry
from reporting.floors import floor_marks, floor_notes
from reporting.formats import ResultTable, plain_text
from reporting.labels import UNEDITED, editor_label, model_label, together_label
from reporting.origins import licence_phrase
from reporting.overlap import overlap_phrase
from reporting.paper import paper_columns
from reporting.run_tables import metric_lines
from reporting.tables import left_out_phrase
from results.files import TABLE
from results.folder import RunResult

_INTERVALS = (*ABOVE[1:3], BY_NAME[4])  # columns of differences
LEAKS = ("Leak",)  # shown beside the paper's columns where gains are


def beside_tables(run: RunResult) -> list[Table]:
    """What the paper's columns are above, their parts by what was read, and answers by a name.

    Returns:
        Rich tables; none in results that do not say. The unedited model is above nothing.
    """
    names = [name for name in (*paper_columns(run.scenario), *LEAKS) if name in run.metrics]
    above = [] if run.editor == UNEDITED else above_lines(run, names)
    told = (
        ("Above the unedited model, and above the answer about others", ABOVE, above),
        ("By what the unedited model read of the pictures", BY_PICTURE, part_lines(run, names)),
        ("Name first, then ask", BY_NAME, by_name_lines(run)),
    )
    return [_table(title, header, lines) for title, header, lines in told if lines]


def result_table(run: RunResult) -> Table:
    """The paper's columns of a run, one a line; a last line names the file that has the rest.

    Returns:
        A rich table: metric, mean in percent, 95 % interval, records.
    """
    cost = "" if run.seconds_per_edit is None else f", {run.seconds_per_edit:.3g} s per edit"
    names = [name for name in paper_columns(run.scenario) if name in run.metrics]
    further = len(run.metrics) - len(names)
    floors = floor_notes(floor_marks(Entry.of(run), names).values())
    table = Table(
        title=f"{editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario",
        caption=f"{run.data}, {run.n_edits} edits{together_label(run.protocol_name)}"
        f"{left_out_phrase(run)}, seed {run.seed}{cost}"
        + "".join(f"\n{note}" for note in floors)
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


def rich_table(table: ResultTable) -> Group:
    """A result table with its notes below, for the terminal.

    The column n is shown where lines differ in it. A terminal is narrow: titles break at their
    underscores, intervals do not break, and nothing is cut off.
    """
    drawn = Table(
        title=Text(table.title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    counts = table.counts if len({row.n for row in table.rows}) > 1 else ()
    for head in table.heads:
        drawn.add_column(Text(head), no_wrap=True)
    for name in counts:
        drawn.add_column(name, justify="right")
    for number, column in enumerate(table.columns):
        cells = [row.cells[number] for row in table.rows]
        is_whole = any(cell.interval or cell.half for cell in cells)
        title = Text(column.title.replace("_", " "))
        drawn.add_column(title, justify="right", overflow="fold", no_wrap=is_whole)
    for rows in table.groups:
        for row in rows:
            texts = (*table.counts_of(row)[: len(counts)], *map(plain_text, row.cells))
            drawn.add_row(*map(Text, (*row.heads, *texts)))
        if len(table.heads) > 1:
            drawn.add_section()
    return Group(drawn, *(Text(note) for note in table.notes), "")


def _table(title: str, header: Sequence[str], lines: Sequence[Sequence[str]]) -> Table:
    table = Table(title=title)
    table.add_column(header[0], no_wrap=True)
    for name in header[1:]:  # an interval stays on its line; a title may take two
        table.add_column(name, justify="right", no_wrap=name in _INTERVALS)
    for line in lines:
        table.add_row(*line)
    return table
