"""Tells whether the files of a base model are there, without loading it.

    python -m models check                                  every model of configs/model
    python -m models check model=llava
    python -m models check model=llava model.path=/data/llava

Ends with status 0 when everything is there, 1 when something is missing, 2 for a bad command line.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from configs.models import every_model, model_options
from errors import exit_status
from results.screen import screen

if TYPE_CHECKING:  # nothing heavy is imported before the words are checked
    from models.check import Item, Report

COMPLETE, MISSING = 0, 1
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    words = _parser().parse_args(arguments).words
    return exit_status(lambda: check(words))


def check(words: Sequence[str]) -> int:
    """Prints a table and a verdict for each model; 0 if every file is there, else 1.

    Raises:
        ConfigError: the words are no model.
    """
    models = [model_options(words)] if words else every_model()
    from models.check import check_model

    reports = [check_model(m.name, m.family, m.path, m.revision) for m in models]
    console = screen(highlight=False, narrowest=_NARROWEST)
    for report in reports:
        show(report, console)
    return COMPLETE if all(report.complete for report in reports) else MISSING


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
    console.print(f"{report.name}: {verdict}", soft_wrap=True)
    for line in report.advice if bad else ():
        console.print(f"  {line}", soft_wrap=True)


def _cells(item: Item) -> tuple[str | Text, ...]:
    from models.check import readable

    if item.path is None:
        state, size = Text("MISSING", style="red"), ""
    else:
        state, size = Text(str(item.path.parent)), readable(item.size or 0)
    if item.problem:
        state = Text.assemble(("BAD", "red"), f": {item.problem}")
    return item.file, item.purpose, state, size, item.source


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m models", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help=summary, description=summary)
    check.add_argument("words", nargs="*", metavar="model=NAME", help="configuration words")
    return parser


if __name__ == "__main__":
    sys.exit(main())
