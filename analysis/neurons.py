"""Knowledge neurons: does a text edit land where the picture's answer is read?

    python -m analysis.neurons editor=ft model=llava_tiny scenario=transitive experiment=demo \
        data.limit=50 --output DIR
    python -m analysis.neurons ckpt=RUN/checkpoints/best.ckpt scenario=transitive --output DIR

Takes the words of evaluate.py; docs/neurons.md explains the method and the files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from analysis.neuron_files import check_free, write_neurons
from analysis.neuron_table import neuron_table
from errors import ConfigError, TmkeError

STEPS, THRESHOLD = 20, 0.2  # as published
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Args:
        arguments: without the program's name; those of the process if None.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_intermixed_args(arguments)
    try:
        words = checked_words(options)
        from analysis.neuron_report import analyse  # loads torch

        numbers, tables = analyse(words, steps=options.steps, threshold=options.threshold)
        files = write_neurons(options.output, numbers, tables)
    except TmkeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console = Console()
    if not console.is_terminal:
        console.width = max(console.width, _NARROWEST)
    console.print(neuron_table(numbers))
    print(f"Written: {', '.join(map(str, files))}")
    return 0


def checked_words(options: argparse.Namespace) -> list[str]:
    """The configuration words, after everything that needs no model was checked.

    Raises:
        ConfigError: an option is out of range, or the output is taken.
    """
    if options.steps < 1 or not 0 <= options.threshold < 1:
        raise ConfigError(
            f"--steps {options.steps} --threshold {options.threshold}: steps should be at least 1, "
            "and the threshold, a part of the largest attribution, at least 0 and below 1."
        )
    check_free(options.output, overwrite=options.overwrite)
    if options.edits is None:
        return list(options.words)
    if options.edits < 1 or any(word.startswith("data.limit=") for word in options.words):
        raise ConfigError(
            f"--edits {options.edits}: at least 1 is needed, and it says the same as data.limit: "
            "give one of them."
        )
    return [*options.words, f"data.limit={options.edits}"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m analysis.neurons", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("words", nargs="*", metavar="editor=NAME", help="words of evaluate.py")
    parser.add_argument("--output", type=Path, required=True, metavar="DIR")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    parser.add_argument(
        "--steps", type=int, default=STEPS, help=f"of the integral (default: {STEPS})"
    )
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD,
        help=f"of a set, a part of the largest attribution (default: {THRESHOLD})",
    )  # fmt: skip
    parser.add_argument("--edits", type=int, metavar="N", help="the first N edits, as data.limit")
    return parser


if __name__ == "__main__":
    sys.exit(main())
