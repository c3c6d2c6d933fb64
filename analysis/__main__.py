r"""Looks into a model: where it keeps a fact, what its keys look like, which neurons answer.

    python -m analysis causal_trace model=llava_tiny data=world --output DIR
    python -m analysis second_moment model=llava --layer 3,4,5 --text corpus.txt
    python -m analysis statistics editor=ultraedit model=llava data=tmke --output FILE
    python -m analysis knowledge_neurons editor=ft model=llava_tiny scenario=transitive \
        experiment=demo data.limit=50 --output DIR

All take configuration words as evaluate.py does. docs/rome.md explains the first two,
docs/ultraedit.md the third, docs/neurons.md the last.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from analysis import NOISE, STEPS, THRESHOLD, commands
from errors import exit_status
from options import path_flag, without_tilde

CACHE = Path("runs/second_moments")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if unknown := [word for word in others if word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.words += others  # words that stand behind a flag
    return exit_status(lambda: options.run(options))


def _parser() -> argparse.ArgumentParser:
    summary, examples, keys = (__doc__ or "").strip().split("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m analysis", description=summary, epilog=f"examples:\n{examples}\n\n{keys}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    kinds = parser.add_subparsers(metavar="ANALYSIS", required=True)

    trace = kinds.add_parser("causal_trace", help="which hidden states carry a fact")
    trace.set_defaults(run=commands.causal_trace)
    _add_output(trace)
    trace.add_argument("--facts", type=int, default=100, help="at most so many (default: 100)")
    trace.add_argument("--draws", type=int, default=5, help="of the noise (default: 5)")
    trace.add_argument("--noise", type=float, default=NOISE, help=f"deviations ({NOISE})")

    moment = kinds.add_parser("second_moment", help="C = E[k k^T], for ROME and MEMIT")
    moment.set_defaults(run=commands.second_moment)
    moment.add_argument(
        "--layer", type=_layers, required=True, metavar="N[,N...]",
        help="decoder layers, from 0; one file each, in one pass over the text",
    )  # fmt: skip
    moment.add_argument(
        "--text", type=without_tilde, metavar="FILE",
        help="a file, a folder, or a dataset of the hub (default: the training facts of data=)",
    )  # fmt: skip
    moment.add_argument("--column", default="text", help="of a table (default: text)")
    moment.add_argument("--split", default="train", help="of a dataset (default: train)")
    moment.add_argument("--samples", type=int, default=100_000, help="documents (default: 100000)")
    moment.add_argument("--batch", type=int, default=16, help="documents at once (default: 16)")
    moment.add_argument("--cache", type=path_flag, default=CACHE, help=f"folder (default: {CACHE})")

    statistics = kinds.add_parser("statistics", help="what UltraEdit normalises by, in a file")
    statistics.set_defaults(run=commands.statistics)
    statistics.add_argument(
        "--output", type=path_flag, required=True, metavar="FILE", help="a new file"
    )

    neurons = kinds.add_parser(
        "knowledge_neurons", help="whether a text edit lands where a picture's answer is read"
    )
    neurons.set_defaults(run=commands.knowledge_neurons)
    _add_output(neurons)
    neurons.add_argument(
        "--steps", type=int, default=STEPS, help=f"of the integral (default: {STEPS})"
    )
    neurons.add_argument(
        "--threshold", type=float, default=THRESHOLD,
        help=f"of a set, a part of the largest attribution (default: {THRESHOLD})",
    )  # fmt: skip
    neurons.add_argument(
        "--shortcut", action="store_true", help="the authors' shortcut share too (docs/neurons.md)"
    )
    neurons.add_argument("--edits", type=int, metavar="N", help="the first N edits, as data.limit")

    for parser_of_kind in kinds.choices.values():
        parser_of_kind.add_argument(
            "words", nargs="*", metavar="KEY=VALUE", help="configuration words, as of evaluate.py"
        )
    return parser


def _layers(text: str) -> list[int]:
    """Numbers of layers, ascending and each once."""
    try:
        return sorted({int(number) for number in text.split(",")})
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"{text!r}: numbers of layers are needed, such as 5 or 3,4,5"
        ) from error


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=path_flag, required=True, metavar="DIR", help="folder")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")


if __name__ == "__main__":
    sys.exit(main())
