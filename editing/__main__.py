"""Sends a trained editor, or an edit that was kept, to a hub of models.

    python -m editing push ckpt=RUN/checkpoints/best.ckpt --to OWNER/NAME --results RESULT ...
    python -m editing push edit=DIR --to OWNER/NAME --private

It says what it would send and where to, and asks. Ends with status 0 when it was sent, 1 when the
answer was no, 2 for a mistake of the user.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from errors import ConfigError, exit_status
from options import local_or_hub, path_flag
from results.screen import screen

if TYPE_CHECKING:
    from editing.hub import Destination, Parcel

SENT, NOT_SENT = 0, 1
_KINDS = ("ckpt", "edit")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    options = _parser().parse_args(arguments)
    return exit_status(lambda: push(options))


def push(options: argparse.Namespace) -> int:
    """Sends what was named, after a yes.

    Raises:
        TmkeError: it cannot be sent.
    """
    kind, _, path = options.what.partition("=")
    if kind not in _KINDS or not path:
        raise ConfigError(
            f"{options.what}: ckpt=FILE of a trained editor is accepted, or edit=DIR of an edit "
            "that was kept"
        )
    if kind == "edit" and (options.results or options.weights_only):
        raise ConfigError("--results and --weights-only are of trained editors: leave them out")
    if not options.yes and not sys.stdin.isatty():
        raise ConfigError("nobody can be asked here: --yes sends without a question")
    from editing.hub import push_edit, push_editor

    common = {
        "private": options.private, "branch": options.branch, "licence": options.license,
        "confirm": _show if options.yes else _ask,
    }  # fmt: skip
    if kind == "ckpt":
        sent = push_editor(
            local_or_hub(path), options.to, results=options.results,
            weights_only=options.weights_only, **common,
        )  # fmt: skip
    else:
        sent = push_edit(local_or_hub(path), options.to, **common)
    if sent is None:
        screen().print("Nothing was sent.")
        return NOT_SENT
    screen().print(f"Sent as {sent}", soft_wrap=True)
    return SENT


def _show(parcel: Parcel, destination: Destination) -> bool:
    """Says what is sent, and where to."""
    console = screen(highlight=False)
    seen = "private" if destination.private else "public: everyone can read it"
    state = "" if destination.exists else "new, "
    console.print(
        f"{parcel.kind} to {destination.address}, branch {destination.branch} ({state}{seen})",
        soft_wrap=True,
    )
    for name, size in parcel.sizes.items():
        replaced = ", in place of the one there" if name in destination.files else ""
        console.print(f"  {name}  {size:,} bytes{replaced}", soft_wrap=True)
    for name in parcel.removed(destination):
        console.print(f"  {name}  of an earlier one, is taken out", soft_wrap=True)
    for setting in parcel.left_out:
        console.print(f"  not sent, a path of this machine: {setting}", soft_wrap=True)
    return True


def _ask(parcel: Parcel, destination: Destination) -> bool:
    _show(parcel, destination)
    return input("Send this? [y/N] ").strip().lower() in ("y", "yes")


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m editing", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("push", help=summary, description=summary)
    command.add_argument("what", metavar="ckpt=FILE|edit=DIR", help="what is sent")
    command.add_argument("--to", required=True, metavar="OWNER/NAME", help="the repository")
    command.add_argument(
        "--results", nargs="+", type=path_flag, default=[], metavar="DIR",
        help="folders of evaluate.py with ckpt=FILE, for the table on the repository's page",
    )  # fmt: skip
    for flag, value, meaning in (
        ("branch", "main", "of the repository (default main)"),
        ("license", None, "of what is sent, as the hub names it, such as mit"),
    ):
        command.add_argument(f"--{flag}", default=value, metavar=flag.upper(), help=meaning)
    for flag, meaning in (
        ("private", "make a repository that only its owners see"),
        ("weights-only", "leave out what train.py needs to go on with the training"),
        ("yes", "send without a question"),
    ):
        command.add_argument(f"--{flag}", action="store_true", help=meaning)
    return parser


if __name__ == "__main__":
    sys.exit(main())
