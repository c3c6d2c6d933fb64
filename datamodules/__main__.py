"""Data sets without a model: what is in one, and what is wrong with it.

    python -m datamodules check data=tmke data.root=DIR
    python -m datamodules check data=vlkeb data.root=DIR data.files=[eval.json] --json
    python -m datamodules check data=zsre data.root=DIR --tokenizer llava --strict
    python -m datamodules export data=vlkeb data.root=DIR data.files=[eval.json] --output SET

`check` ends with status 0 where nothing is wrong, 1 where something is. All end with 2 for a
mistake of the user. The words are those of evaluate.py.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from configs.models import model_options
from configs.overrides import group_options
from configs.sources import data_options
from datamodules.checking.command import CLEAN, add_check, run_check
from datamodules.packed.folder import check_free
from errors import exit_status
from options import path_flag

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    parser = _parser()
    options, others = parser.parse_known_args(arguments)
    if unknown := [word for word in others if word.startswith("-")]:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    options.words += others  # words that stand behind a flag
    return exit_status(lambda: options.run(options))


def check(options: argparse.Namespace) -> int:
    """Says what is in a data set and what is wrong with it.

    Raises:
        TmkeError: it, or a tokenizer, cannot be read at all.
    """
    data = data_options(options.words)
    tokenizers = [(name, _tokenizer(name)) for name in dict.fromkeys(options.tokenizer)]
    return run_check(options, data, tokenizers)


def _tokenizer(name: str) -> PreTrainedTokenizerBase:
    """The tokenizer of a model of configs/model, of a folder, or of the hub."""
    from models.tokenizer import named_tokenizer

    if name not in group_options("model"):
        return named_tokenizer(name)
    model = model_options([f"model={name}"])
    return named_tokenizer(model.path, model.revision)


def export(options: argparse.Namespace) -> int:
    """Writes a data set with its pictures as Parquet, which data=hub and `datasets` read.

    Raises:
        TmkeError: it cannot be read or written, or pictures are missing.
    """
    data = data_options(options.words)
    check_free(options.output)
    from datamodules.packed.export import export as write

    written = write(
        data.open(),
        options.output,
        words=options.words,
        limit=data.limit,
        allow_missing=options.allow_missing,
    )
    for split, counts in written.counts.items():
        print(f"{split}: {counts.records:,} records")
    if written.absent:
        print(f"{len(written.absent):,} pictures are named alone, as their files are missing")
    print(f"{options.output}: {len(written.files)} Parquet files; read it with data=hub "
          f"data.root={options.output}")  # fmt: skip
    return CLEAN


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m datamodules", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    add_check(commands).set_defaults(run=check)
    told = "Writes a data set, with its pictures, as Parquet for data=hub, `datasets` and the hub."
    command = commands.add_parser("export", help=told, description=told)
    command.set_defaults(run=export)
    command.add_argument(
        "--output", type=path_flag, required=True, metavar="DIR", help="empty, or not there yet"
    )
    command.add_argument(
        "--allow-missing",
        action="store_true",
        help="name pictures that are not there, and leave their bytes out",
    )
    for each in commands.choices.values():
        each.add_argument(
            "words", nargs="*", metavar="data=NAME", help="configuration words, as of evaluate.py"
        )
    return parser


if __name__ == "__main__":
    sys.exit(main())
