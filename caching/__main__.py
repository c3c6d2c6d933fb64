"""The cache on the disk: what it holds, and how to empty it.

    python -m caching list                   by base model: entries, bytes, last used
    python -m caching clear                  all of it
    python -m caching clear --model NAME     what it holds of one base model
    python -m caching list --folder DIR      of another folder than $TMKE_CACHE or the user's own

Both end with status 2 for a mistake of the user.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from rich.table import Table

from caching.folder import cache_folder
from errors import ConfigError, exit_status
from options import path_flag
from results.screen import screen


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    options = _parser().parse_args(arguments)
    folder = cache_folder(None if options.folder is None else str(options.folder))
    if options.command == "list":
        return exit_status(lambda: show(folder))
    return exit_status(lambda: clear(folder, options.model))


def show(folder: Path) -> int:
    """Prints what a cache holds.

    Raises:
        ConfigError: no cache is there, or it cannot be opened.
    """
    from caching.catalogue import holdings
    from caching.environment import file_in, opened_to_look

    environment, console = opened_to_look(folder), screen(highlight=False)
    found = holdings(environment)
    table = Table("model", "entries", "MB", "last used", "what decides its numbers")
    for one in found:
        used = datetime.fromtimestamp(one.used).isoformat(" ", "minutes")
        facts = " ".join(one.facts.get(key, "") for key in ("fingerprint", "dtype", "device"))
        shown = facts.replace("torch.", "")
        table.add_row(one.label, f"{one.entries:,}", f"{one.size / 1e6:,.1f}", used, shown)
    console.print(table)
    size = file_in(folder).stat().st_size
    console.print(f"{folder}: {size / 1e6:,.1f} MB", soft_wrap=True)
    return 0


def clear(folder: Path, label: str | None) -> int:
    """Empties a cache, or removes one base model from it.

    Raises:
        ConfigError: no cache is there, it cannot be written, or it holds nothing of that model.
    """
    from caching.catalogue import drop, holdings
    from caching.environment import file_in, opened_to_look, remove_all

    if label is None:
        size = file_in(folder).stat().st_size
        remove_all(folder)
        screen().print(f"removed {size / 1e6:,.1f} MB from {folder}", soft_wrap=True)
        return 0
    environment = opened_to_look(folder, write=True)
    every = holdings(environment)
    named = [one for one in every if one.label == label]
    if not named:
        there = ", ".join(sorted({one.label for one in every})) or "nothing"
        raise ConfigError(f"--model {label}: the cache in {folder} has none; it holds {there}.")
    for one in named:
        drop(environment, one.name)
    size = sum(one.size for one in named)
    screen().print(
        f"{size / 1e6:,.1f} MB of {label} in {folder} are free for new entries", soft_wrap=True
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m caching", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    told = "Shows what the cache holds, by base model."
    commands.add_parser("list", help=told, description=told)
    told = "Empties the cache, or removes one base model from it."
    command = commands.add_parser("clear", help=told, description=told)
    command.add_argument("--model", metavar="NAME", help="as `list` shows it; default: all")
    for each in commands.choices.values():
        each.add_argument(
            "--folder", type=path_flag, metavar="DIR",
            help="where it is (default: $TMKE_CACHE, else the user's folder for caches)",
        )  # fmt: skip
    return parser


if __name__ == "__main__":
    sys.exit(main())
