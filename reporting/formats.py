r"""A table as a value, and the same table in Markdown, LaTeX (booktabs) and CSV.

`templates/table.html` is the same in HTML.

A cell is a number as text with what belongs to it: half its 95 % interval (`98.2 ± 1.5`), the
interval itself (`+3.1 [1.0, 5.2]`) or, over several seeds, their standard deviation
(`98.2 (SD 0.4)`), the number of records behind it, and marks. The best is bold,
the second underlined, and a dagger says that a number is not told apart from the best. Behind a
number that is not told from a floor stand the marks of `reporting.floors`.
"""

import csv
import html
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from metrics.headlines import GAIN, SPECIFICITY
from reporting.labels import lower_is_better

EMPTY = "-"
BEST, SECOND, APART, PLAIN = "best", "second", "apart", ""  # apart: the interval excludes 0
MEASURED, PAPER, DIFFERENCE = "measured", "paper", "difference"
HIGHER, LOWER = "↑", "↓"
TIED = "†"
NO_GAIN, NOT_SPECIFIC = "‡", "§"
FLOOR_MARKS = {NO_GAIN: GAIN, NOT_SPECIFIC: SPECIFICITY.lower()}  # of `reporting.floors`
_CSV_COLUMNS = (
    *("n", "seeds", "line", "column", "value", "half_interval", "sd", "interval", "mark"),
    *("not_told_apart", "not_told_from"),
)


@dataclass(frozen=True)
class Cell:
    """One number of a table.

    Attributes:
        text: the number as it is printed; `EMPTY` where nothing was measured.
        half: half the 95 % interval, printed after ±.
        mark: `BEST`, `SECOND`, `APART` or `PLAIN`.
        interval: the 95 % interval as it is printed, in place of `half`.
        sd: the standard deviation over seeds, in place of both.
        is_tied: whether the number is not told apart from the best of its column.
        floor: marks of the floors that the number is not told from (`reporting.floors`).
        n: records behind it; None where the table says it for the whole row.
    """

    text: str = EMPTY
    half: str = ""
    mark: str = PLAIN
    interval: str = ""
    is_tied: bool = False
    sd: str = ""
    floor: str = ""
    n: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Column:
    """A column of numbers; `better` is `HIGHER`, `LOWER` or empty."""

    name: str
    better: str = ""

    @property
    def title(self) -> str:
        return f"{self.name} {self.better}".strip()


@dataclass(frozen=True)
class Row:
    """One line of a table.

    Attributes:
        heads: what the line is about, one text per head of the table.
        n: number of edits or records; empty on lines that quote the paper.
        kind: `MEASURED`, `PAPER` (quoted) or `DIFFERENCE` (measured minus quoted).
        seeds: number of runs behind the line; 0 on lines that quote the paper.
    """

    heads: tuple[str, ...]
    n: str
    cells: tuple[Cell, ...]
    kind: str = MEASURED
    seeds: int = 1

    @property
    def counts(self) -> tuple[str, str]:
        """N and the number of seeds as they are printed; nothing on lines that quote."""
        return self.n, str(self.seeds or "")


@dataclass(frozen=True)
class ResultTable:
    """A table before it is written in any format.

    Attributes:
        heads: names of the columns of text; rows that are equal in the first belong together.
        columns: the columns of numbers, behind a column n and, where a line has several seeds,
            one that counts them.
        notes: sentences that stand below.
    """

    title: str
    heads: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def counts(self) -> tuple[str, ...]:
        """Titles of the columns that count."""
        return ("n", "Seeds") if any(row.seeds > 1 for row in self.rows) else ("n",)

    def counts_of(self, row: Row) -> tuple[str, ...]:
        """A line's cells in these columns."""
        return row.counts[: len(self.counts)]

    @property
    def groups(self) -> list[list[Row]]:
        return [list(rows) for _, rows in groupby(self.rows, key=lambda row: row.heads[0])]


def metric_column(name: str) -> Column:
    """The column of a named metric; only leaks are better when they are low."""
    return Column(name, LOWER if lower_is_better(name) else HIGHER)


def fewer_records(rows: Sequence[Row], columns: Sequence[Column]) -> tuple[str, ...]:
    """A note on metrics that fewer records have than the n of their row; none if there is none.

    Where all rows have the same number it is said once, else with the rows that have it.
    """
    phrases = []
    for number, column in enumerate(columns):
        measured = [(row, n) for row in rows if row.n and (n := row.cells[number].n)]
        fewer = sorted({n for row, n in measured if n < int(row.n)})
        if len(fewer) == 1 and all(n == fewer[0] for _, n in measured):
            phrases.append(f"{column.name} {fewer[0]}")
        else:
            phrases += [f"{column.name} {n} ({_rows_with(n, measured)})" for n in fewer]
    return (f"Fewer records than n: {', '.join(phrases)}.",) if phrases else ()


def _rows_with(n: int, measured: Sequence[tuple[Row, int]]) -> str:
    """The rows with n records: a model by its name alone where all its rows have as many."""
    names: dict[str, None] = {}
    for model, group in groupby(measured, key=lambda pair: pair[0].heads[0]):
        of_model = list(group)
        if all(records == n for _, records in of_model):
            names[model] = None
        else:
            names |= {" ".join(row.heads): None for row, records in of_model if records == n}
    return ", ".join(names)


def to_markdown(table: ResultTable) -> str:
    """GitHub-flavoured Markdown, best in bold, second underlined; the title is left to the page."""
    header = [*table.heads, *table.counts, *(column.title for column in table.columns)]
    rules = ["---"] * len(table.heads) + ["---:"] * (len(table.columns) + len(table.counts))
    lines = [_markdown_line(header), _markdown_line(rules)]
    for row in table.rows:
        cells = [_markdown_cell(cell) for cell in row.cells]
        heads = [markdown_text(head) for head in row.heads]
        lines.append(_markdown_line([*heads, *table.counts_of(row), *cells]))
    lines += [f"\n{markdown_text(note)}" for note in table.notes]
    return "\n".join(lines) + "\n"


def to_latex(table: ResultTable) -> str:
    r"""A `table` with booktabs rules; needs `\usepackage{booktabs}`."""
    counts = ("$n$", *table.counts[1:])
    header = [*map(_tex, table.heads), *counts, *(_tex(column.title) for column in table.columns)]
    shape = "l" * len(table.heads) + "r" * (len(table.columns) + len(counts))
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{_tex(' '.join((table.title + '.', *table.notes)))}}}",
        rf"\begin{{tabular}}{{{shape}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
    ]
    for rows in table.groups:
        lines.append(r"\midrule")
        for number, row in enumerate(rows):
            name = _tex(row.heads[0]) if number == 0 else ""
            cells = [_latex_cell(cell) for cell in row.cells]
            heads = [name, *map(_tex, row.heads[1:])]
            lines.append(" & ".join([*heads, *table.counts_of(row), *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def markdown_text(plain: str) -> str:
    r"""Plain text with everything escaped to which Markdown or HTML gives a meaning.

    Underscores within a word have none, and line breaks become blanks.

    >>> markdown_text("*a* <b> snake_case _c_ [d](e)|")
    '\\*a\\* &lt;b&gt; snake_case \\_c\\_ \\[d\\](e)\\|'
    """
    escaped = html.escape(" ".join(plain.split()), quote=False)
    escaped = re.sub(r"([\\`*\[\]|~#])", r"\\\1", escaped)
    return re.sub(r"(?<![^\W_])_|_(?![^\W_])", r"\\_", escaped)


def to_csv(table: ResultTable) -> str:
    """A line per number, as it is printed, for programs and spreadsheets.

    Columns: the table's heads, n, seeds, line (`MEASURED`, `PAPER` or `DIFFERENCE`), column, value,
    half_interval, sd, interval, mark, not_told_apart (from the best: yes) and not_told_from (which
    floors: gain, specificity); what a number has not is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    heads = [head.lower().replace(" ", "_") for head in table.heads]
    writer.writerow([*heads, *_CSV_COLUMNS])
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            value = "" if cell.text == EMPTY else cell.text
            tied = "yes" if cell.is_tied else ""
            floors = " ".join(FLOOR_MARKS[mark] for mark in cell.floor)
            numbers = (value, cell.half, cell.sd, cell.interval, cell.mark, tied, floors)
            writer.writerow([*row.heads, *row.counts, row.kind, column.name, *numbers])
    return text.getvalue()


def plain_text(cell: Cell, number: str | None = None) -> str:
    """A cell without its mark, for pictures and terminals; `number` is its text as marked."""
    marks = f"{TIED if cell.is_tied else ''}{cell.floor}"
    return f"{number or cell.text}{_spread(cell)}{f' {marks}' if marks else ''}"


def _spread(cell: Cell) -> str:
    if cell.half:
        return f" ± {cell.half}"
    if cell.sd:
        return f" (SD {cell.sd})"
    return f" {cell.interval}" if cell.interval else ""


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    bold = f"**{cell.text}**"
    return plain_text(cell, {BEST: bold, APART: bold, SECOND: f"<u>{cell.text}</u>"}.get(cell.mark))


def _latex_cell(cell: Cell) -> str:
    if cell.text == EMPTY:
        return "--"
    number = _tex(cell.text.replace("-", "−"))
    bold = rf"\textbf{{{number}}}"
    marked = {BEST: bold, APART: bold, SECOND: rf"\underline{{{number}}}"}.get(cell.mark, number)
    raised = (r"\dagger" if cell.is_tied else "") + "".join(_TEX_MARKS[m] for m in cell.floor)
    marks = f"$^{{{raised}}}$" if raised else ""
    return marked + _tex(_spread(cell).replace("-", "−")) + marks


def _tex(text: str) -> str:
    """Escape the characters that LaTeX gives a meaning, and spell the signs it may not know."""
    return "".join(_TEX_SPECIAL.get(character, character) for character in text)


_TEX_MARKS = {NO_GAIN: r"\ddagger", NOT_SPECIFIC: r"\S"}
_TEX_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "−": "$-$",
    TIED: r"$\dagger$",
    NO_GAIN: r"$\ddagger$",
    NOT_SPECIFIC: r"\S{}",
    HIGHER: r"$\uparrow$",
    LOWER: r"$\downarrow$",
}
