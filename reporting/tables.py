"""Result tables laid out as Tables 1-3 of the paper, in Markdown and LaTeX.

One row per model and editor, one column per metric: mean ± half the 95 % interval, in percent. Per
model the best editor is bold and the second underlined; the unedited model comes first and is not
ranked, since it keeps everything that an edit may disturb. Under the rows of a model that the paper
has used stand the paper's figures and the difference to them.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any

from metrics.bootstrap import Estimate
from reporting.comparable import check_comparable
from reporting.labels import (
    PAPER_MODELS,
    UNEDITED,
    arrow,
    editor_label,
    editor_rank,
    lower_is_better,
    model_label,
    model_rank,
    paper_editor,
)
from reporting.results import RunResult

PAPER_TABLES = Path(__file__).with_name("paper_tables.json")
EMPTY = "-"
BEST, SECOND, PLAIN = "best", "second", ""


@dataclass(frozen=True)
class Cell:
    """One number of a table: its text, the half interval if it has one, and its mark."""

    text: str = EMPTY
    half: str = ""
    mark: str = PLAIN


@dataclass(frozen=True)
class Row:
    """One line of a table; `n` is empty on lines that quote the paper."""

    model: str
    label: str
    n: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class ResultTable:
    """A table before it is written in any format; `notes` stand below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


def paper_tables() -> dict[str, Any]:
    """The paper's Tables 1-3 by scenario: {"columns": [...], "rows": {model: {editor: [...]}}}."""
    tables: dict[str, Any] = json.loads(PAPER_TABLES.read_text(encoding="utf-8"))
    return tables


def scenario_table(runs: Sequence[RunResult], columns: Sequence[str] | None = None) -> ResultTable:
    """The table of one scenario.

    Args:
        runs: of one scenario, in any order.
        columns: metrics to show; the paper's columns of the scenario if None.

    Returns:
        Rows by model and editor, the paper's figures beneath those it has.

    Raises:
        DataError: the runs cannot share a table (see `check_comparable`).
    """
    check_comparable(runs)
    scenario = runs[0].scenario
    paper = paper_tables()[scenario]
    shown = tuple(paper["columns"] if columns is None else columns)
    ordered = sorted(runs, key=lambda run: (model_rank(run.model), editor_rank(run.editor)))
    rows: list[Row] = []
    for model, members in groupby(ordered, key=lambda run: run.model):
        of_model = list(members)
        marks = _marks(of_model, shown)
        published = paper["rows"].get(PAPER_MODELS.get(model, ""), {}) if columns is None else {}
        for run in of_model:
            cells = tuple(
                replace(_cell(run.metrics.get(name)), mark=marks.get((run.editor, name), PLAIN))
                for name in shown
            )
            label = editor_label(run.editor)
            rows.append(Row(model_label(model), label, str(run.n_edits), cells))
            rows += _paper_rows(run, shown, published.get(paper_editor(run.editor)))
    title = f"{scenario.capitalize()} scenario, data {runs[0].data}, seed {runs[0].seed} (percent)"
    notes = _count_notes(ordered, shown)
    if any(not row.n for row in rows):
        notes.append("Rows marked paper: the published figures, of the benchmark's 1,324 records.")
    return ResultTable(title, shown, tuple(rows), tuple(notes))


def further_columns(runs: Sequence[RunResult]) -> tuple[str, ...]:
    """Metrics of the runs that the paper's table does not have, in the order of the files."""
    shown = paper_tables()[runs[0].scenario]["columns"]
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return tuple(name for name in names if name not in shown)


def to_markdown(table: ResultTable) -> str:
    """GitHub-flavoured Markdown, best in bold, second underlined."""
    header = ["Model", "Editor", "n", *(arrow(name) for name in table.columns)]
    lines = [_markdown_line(header), _markdown_line(["---", "---", *["---:"] * (len(header) - 2)])]
    for row in table.rows:
        cells = [_markdown_cell(cell) for cell in row.cells]
        lines.append(_markdown_line([row.model, row.label, row.n, *cells]))
    lines += [f"\n{note}" for note in table.notes]
    return "\n".join(lines) + "\n"


def to_latex(table: ResultTable) -> str:
    r"""A `table` with booktabs rules; needs `\usepackage{booktabs}`."""
    header = ["Model", "Editor", "$n$"]
    header += [
        rf"{_tex(name)} $\{'downarrow' if lower_is_better(name) else 'uparrow'}$"
        for name in table.columns
    ]
    lines = [
        r"\begin{table}[t]",
        r"\centering\small",
        rf"\caption{{{_tex(' '.join((table.title + '.', *table.notes)))}}}",
        rf"\begin{{tabular}}{{ll{'r' * (len(header) - 2)}}}",
        r"\toprule",
        " & ".join(header) + r" \\",
    ]
    for model, rows in groupby(table.rows, key=lambda row: row.model):
        lines.append(r"\midrule")
        for number, row in enumerate(rows):
            name = _tex(model) if number == 0 else ""
            cells = [_latex_cell(cell) for cell in row.cells]
            lines.append(" & ".join([name, _tex(row.label), row.n, *cells]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", r"\end{table}"]
    return "\n".join(lines) + "\n"


def run_markdown(run: RunResult) -> str:
    """All metrics of one run, one a line: the content of `table.md`."""
    title = (
        f"# {editor_label(run.editor)} on {model_label(run.model)}, {run.scenario} scenario\n\n"
        f"Data {run.data}, {run.n_edits} edits, seed {run.seed}. Means in percent over records "
        "with 95 % bootstrap intervals; n is the number of records.\n"
    )
    lines = [_markdown_line(["Metric", "Mean", "95 % interval", "n"])]
    lines.append(_markdown_line(["---", "---:", "---:", "---:"]))
    for name, value in run.metrics.items():
        interval = f"{value.low:.1f} to {value.high:.1f}" if value.n else EMPTY
        lines.append(_markdown_line([arrow(name), _cell(value).text, interval, str(value.n)]))
    return title + "\n" + "\n".join(lines) + "\n"


def _cell(value: Estimate | None) -> Cell:
    """A metric that the run lacks and one without records look the same: nothing was measured."""
    if value is None or value.n == 0:
        return Cell()
    return Cell(f"{value.mean:.1f}", f"{value.half_width:.1f}")


def _marks(runs: Sequence[RunResult], columns: Sequence[str]) -> dict[tuple[str, str], str]:
    """Best and second editor of one model per column, at the precision that is printed."""
    marks: dict[tuple[str, str], str] = {}
    ranked = [run for run in runs if run.editor != UNEDITED]
    if len(ranked) < 2:
        return marks
    for name in columns:
        found = {run.editor: run.metrics[name] for run in ranked if name in run.metrics}
        printed = {editor: round(value.mean, 1) for editor, value in found.items() if value.n}
        order = sorted(set(printed.values()), reverse=not lower_is_better(name))
        for place, mark in zip(order, (BEST, SECOND), strict=False):
            marks |= {(editor, name): mark for editor, mean in printed.items() if mean == place}
    return marks


def _paper_rows(
    run: RunResult, columns: Sequence[str], published: Sequence[float] | None
) -> list[Row]:
    """The paper's figures for this model and editor, and ours minus theirs."""
    if published is None:
        return []
    quoted = tuple(Cell(f"{number:.1f}") for number in published)
    ours = [run.metrics.get(name) for name in columns]
    difference = tuple(
        Cell(f"{value.mean - number:+.1f}") if value and value.n else Cell()
        for value, number in zip(ours, published, strict=True)
    )
    model, label = model_label(run.model), editor_label(run.editor)
    return [
        Row(model, f"{label}, paper", "", quoted),
        Row(model, f"{label}, difference", "", difference),
    ]


def _count_notes(runs: Sequence[RunResult], columns: Sequence[str]) -> list[str]:
    """Metrics that not every edit has a probe for; the mean is then over fewer records than n."""
    fewer = []
    for name in columns:
        counts = {
            run.metrics[name].n
            for run in runs
            if name in run.metrics and 0 < run.metrics[name].n < run.n_edits
        }
        if counts:
            fewer.append(f"{name} {' or '.join(map(str, sorted(counts)))}")
    return [f"Fewer records than n: {', '.join(fewer)}."] if fewer else []


def _markdown_line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    wrapped = {BEST: f"**{cell.text}**", SECOND: f"<u>{cell.text}</u>"}.get(cell.mark, cell.text)
    return f"{wrapped} ± {cell.half}" if cell.half else wrapped


def _latex_cell(cell: Cell) -> str:
    if cell.text == EMPTY:
        return "--"
    number = cell.text.replace("-", "$-$")
    wrapped = {BEST: rf"\textbf{{{number}}}", SECOND: rf"\underline{{{number}}}"}.get(
        cell.mark, number
    )
    return rf"{wrapped} $\pm$ {cell.half}" if cell.half else wrapped


def _tex(text: str) -> str:
    """Escape the characters that LaTeX gives a meaning."""
    return "".join(_TEX_SPECIAL.get(character, character) for character in text)


_TEX_SPECIAL = {character: "\\" + character for character in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
