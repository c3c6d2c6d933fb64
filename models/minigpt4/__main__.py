"""Converts MiniGPT-4 from the authors' files to a folder that `model=minigpt4` reads.

    python -m models.minigpt4 convert --vit eva_vit_g.pth \
        --qformer blip2_pretrained_flant5xxl.pth --projection prerained_minigpt4_7b.pth \
        --vicuna VICUNA_7B_V0 --output DIR

Needs about 18 GB of memory and 16 GB of disk in float16, and no GPU.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.logging import RichHandler
from transformers.utils import logging as transformers_logging

from errors import exit_status
from models.minigpt4.convert import Sources, convert
from models.minigpt4.original import Layout
from models.minigpt4.vicuna import VERSIONS
from options import path_flag
from results.screen import screen

_DEFAULTS = Layout()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line.

    Returns:
        Exit code: 0, or 2 after an error that the user can fix.
    """
    options = _parser().parse_args(arguments)
    return exit_status(lambda: _convert(options))


def _convert(options: argparse.Namespace) -> int:
    with _log_to(screen(stderr=True)):
        convert(
            Sources(options.vit, options.qformer, options.projection, options.vicuna),
            options.output,
            version=options.vicuna_version,
            dtype=options.dtype,
            layout=Layout(options.vit_depth, options.vit_heads, options.qformer_heads),
            overwrite=options.overwrite,
        )
    screen().print(f"wrote {options.output}", soft_wrap=True)
    return 0


@contextmanager
def _log_to(console: Console) -> Iterator[None]:
    """Log lines of the conversion on the console, and no bars of transformers beside them."""
    log = logging.getLogger("models.minigpt4")
    handler = RichHandler(console=console, show_path=False, show_level=False)
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, bars = log.level, transformers_logging.is_progress_bar_enabled()
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def _parser() -> argparse.ArgumentParser:
    summary = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m models.minigpt4", description=summary)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("convert", help=summary, description=summary)
    for name, meaning in (
        ("vit", "eva_vit_g.pth: the ViT"),
        ("qformer", "blip2_pretrained_flant5xxl.pth: the Q-Former"),
        ("projection", "prerained_minigpt4_7b.pth: the linear map into Vicuna"),
        ("vicuna", "folder of Vicuna 7B in transformers' form"),
        ("output", "folder for the model, new or empty"),
    ):
        command.add_argument(
            f"--{name}", required=True, type=path_flag, metavar="PATH", help=meaning
        )
    command.add_argument(
        "--vicuna-version", choices=(*VERSIONS, "any"), default="v0",
        help="which Vicuna it has to be (default v0, on which MiniGPT-4 7B was trained)",
    )  # fmt: skip
    command.add_argument(
        "--dtype", choices=("float16", "bfloat16", "float32"), default="float16",
        help="number type of the weights (default float16)",
    )  # fmt: skip
    for name, value in vars(_DEFAULTS).items():
        command.add_argument(
            f"--{name.replace('_', '-')}", type=int, default=value, metavar="N",
            help=f"{name.replace('_', ' ')}, which tensors do not show (default {value})",
        )  # fmt: skip
    command.add_argument(
        "--overwrite", action="store_true", help="replace an earlier conversion in the output"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
