"""The table of `python -m models check`: a line for each file of a model, and a verdict."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from models.check import Report
from models.files import Item, readable


def show(report: Report, console: Console) -> None:
    """Prints a table of the files and a verdict."""
    table = Table(title=f"{report.name}: {report.path}", title_justify="left")
    for name in ("file", "needed for", "found", "size", "source"):
        table.add_column(name, justify="right" if name == "size" else "left", overflow="fold")
    for item in report.items:
        table.add_row(*_cells(item))
    console.print(table)
    bad = sum(not item.good for item in report.items)
    verdict = f"{bad} of {len(report.items)} files are missing or bad" if bad else "complete"
    if report.refused:
        verdict = f"all files are there, and they do not open: {report.refused}"
    console.print(f"{report.name}: {verdict}", soft_wrap=True)
    for line in report.advice if bad else ():
        console.print(f"  {line}", soft_wrap=True)


def _cells(item: Item) -> tuple[str | Text, ...]:
    if item.path is None:
        state = Text("not there") if item.optional else Text("MISSING", style="red")
        size = ""
    else:
        state, size = Text(str(item.path.parent)), readable(item.size or 0)
    if item.problem:
        state = Text.assemble(("BAD", "red"), f": {item.problem}")
    return item.file, item.purpose, state, size, item.source
