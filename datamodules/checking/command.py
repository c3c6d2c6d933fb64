"""`python -m datamodules check`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from datamodules.source import DataOptions
from results.screen import screen

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLEAN, PROBLEMS = 0, 1
_SUMMARY = "Says what is in a data set and what is wrong with it, without a model."
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def add_check(commands: Any) -> argparse.ArgumentParser:
    """Adds the command to those of `python -m datamodules`."""
    check: argparse.ArgumentParser = commands.add_parser(
        "check", help=_SUMMARY, description=_SUMMARY
    )
    check.add_argument("--json", action="store_true", help="print JSON, with every record")
    check.add_argument("--strict", action="store_true", help="end with status 1 for notes too")
    check.add_argument(
        "--no-pictures", action="store_true", help="do not look for pictures, nor open them"
    )
    check.add_argument(
        "--tokenizer", action="append", default=[], metavar="NAME|DIR",
        help="read the answers with it: an option of configs/model, a folder or a repository of "
        "the hub; may be given several times",
    )  # fmt: skip
    return check


def run_check(
    options: argparse.Namespace,
    data: DataOptions,
    tokenizers: Sequence[tuple[str, PreTrainedTokenizerBase]],
) -> int:
    """Prints the report; 0 where nothing is wrong, else 1.

    Args:
        options: of the command line.
        data: what is checked.
        tokenizers: name -> those of the command line.

    Raises:
        TmkeError: it cannot be read at all.
    """
    from datamodules.checking.check import check_data
    from datamodules.checking.table import show

    report = check_data(
        data, tokenizers=tokenizers, are_opened=not options.no_pictures, track=_track
    )
    if options.json:
        print(report.as_json())
    else:
        show(report, screen(highlight=False, narrowest=_NARROWEST))
    return PROBLEMS if report.problems or (options.strict and report.notes) else CLEAN


def _track(things: Iterable[Any], n: int) -> Iterable[Any]:
    """The same things, with a bar on a terminal."""
    from rich.progress import track

    console = screen(stderr=True)
    return track(
        things, "Pictures", total=n, console=console, transient=True,
        disable=not console.is_terminal,
    )  # fmt: skip
