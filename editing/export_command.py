"""`python -m models export`: an edit as a model of its own, or as an adapter."""

from __future__ import annotations

import argparse
import re
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.models import model_options
from configs.overrides import group_options
from configs.schema import ModelOptions
from editing.card import Card, read_card
from editors.hub import edit_folder
from errors import ConfigError
from options import local_or_hub, path_flag
from results.screen import screen

if TYPE_CHECKING:
    from editing.merging import MatrixChange

FORMATS = ("transformers", "peft")
_SUMMARY = (
    "Merges a kept edit into its base model and writes a folder that transformers opens, or writes "
    "the edit as an adapter of peft."
)
_KEY = (
    "max and mean of |change|; lost: weights whose delta was under half an ulp; error: what "
    "rounding took of the delta, by norms"
)
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def add_export(commands: Any) -> None:
    """Adds the command to those of `python -m models`."""
    export = commands.add_parser("export", help=_SUMMARY, description=_SUMMARY)
    export.add_argument(
        "words", nargs="+", metavar="edit=DIR",
        help="the folder of the edit, or hub:OWNER/NAME; model=NAME, model.path=DIR where its card "
        "does not say it",
    )  # fmt: skip
    export.add_argument(
        "--output", type=path_flag, required=True, metavar="PATH", help="folder, new or empty"
    )
    export.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0], help="what is written (transformers)"
    )
    export.add_argument(
        "--max-shard-size", type=_size, default="5GB", metavar="SIZE",
        help="of a file of weights (default 5GB)",
    )  # fmt: skip
    export.add_argument("--overwrite", action="store_true", help="replace an earlier export there")


def run_export(options: argparse.Namespace) -> int:
    """Exports, and prints what was changed; 0.

    Raises:
        TmkeError: something is missing, damaged or does not go together.
    """
    from models.files import readable

    started = time.perf_counter()
    folder, words = _edit_of(options.words)
    card = read_card(folder)
    base = _base_of(card, words)
    say = partial(screen(stderr=True).print, soft_wrap=True)
    if options.format == "peft":
        from editing.adapter import export_adapter

        done = export_adapter(folder, base, options.output, overwrite=options.overwrite, say=say)
    else:
        from editing.export import export_merged

        done = export_merged(
            folder, base, options.output, max_shard_size=options.max_shard_size,
            overwrite=options.overwrite, say=say,
        )  # fmt: skip
    console = screen(highlight=False, narrowest=_NARROWEST)
    if done.changes:
        console.print(_table(card, done.changes))
    for note in done.notes:
        console.print(note, soft_wrap=True)
    size = sum(path.stat().st_size for path in done.output.rglob("*") if path.is_file())
    took = time.perf_counter() - started
    console.print(f"wrote {done.output} ({readable(size)}, {took:.0f} s)", soft_wrap=True)
    return 0


def _edit_of(words: list[str]) -> tuple[Path, list[str]]:
    """The folder of the edit, and the words about the base model.

    Raises:
        ConfigError: no edit is given, or several are.
        ModelError: a hub has no such edit.
    """
    edits = [word.partition("=")[2] for word in words if word.startswith("edit=")]
    if len(edits) != 1 or not edits[0]:
        raise ConfigError(
            f"one edit is exported, and {len(edits)} are given: edit=DIR names the folder that "
            "edit.save(...) wrote, or edit=hub:OWNER/NAME one on a hub."
        )
    folder = edit_folder(local_or_hub(edits[0]))
    return folder, [word for word in words if not word.startswith("edit=")]


def _base_of(card: Card, words: list[str]) -> ModelOptions:
    """The base model: as typed, else as the card of the edit says.

    Raises:
        ConfigError: neither says where it is, or the words are no model.
    """
    if any(word.startswith("model=") for word in words):
        return model_options(words)
    if card.base.name in group_options("model"):
        return model_options([f"model={card.base.name}", *words])
    named = ["model=auto", f"model.name={card.base.name}", f"model.family={card.base.family}"]
    if any(word.startswith("model.path=") for word in words):
        return model_options([*named, *words])
    if card.base.hub is None:
        raise ConfigError(
            f"the edit was made on {card.base.name}, and its card does not say where that lies: "
            "add model.path=DIR."
        )
    revision = [f"model.revision={card.base.revision}"] if card.base.revision else []
    return model_options([*named, f"model.path={card.base.hub}", *revision, *words])


def _table(card: Card, changes: tuple[MatrixChange, ...]) -> Any:
    """A line for each matrix."""
    from rich.table import Table

    table = Table(
        title=f"{card.base.name} with {card.label}", title_justify="left",
        caption=_KEY, caption_justify="left",
    )  # fmt: skip
    table.add_column("linear map", overflow="fold")
    for heading in ("type", "numbers", "changed", "max", "mean", "lost", "error"):
        table.add_column(heading, justify="right")
    for one in changes:
        table.add_row(
            one.name, one.dtype, f"{one.n_weights:,}", f"{one.n_changed / one.n_weights:.1%}",
            f"{one.largest:.1e}", f"{one.mean:.1e}", f"{one.lost:.1%}", f"{one.error:.2%}",
        )  # fmt: skip
    return table


def _size(text: str) -> str:
    """A size as transformers reads it.

    Raises:
        argparse.ArgumentTypeError: it is none.
    """
    if not re.fullmatch(r"[1-9]\d*([KMGT]I?B)", text, re.IGNORECASE):
        raise argparse.ArgumentTypeError(f"{text!r}: a size such as 5GB or 500MB is needed")
    return text.upper().replace("I", "i")
