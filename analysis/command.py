"""What the analysis commands share: a base model by configuration words, errors in one line."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from configs.check import load_config
from configs.schema import EvaluateConfig
from errors import TmkeError
from runner.start import start


def configured(words: Sequence[str]) -> tuple[EvaluateConfig, torch.device]:
    """The configuration of some words such as `model=llava_tiny data=world`; starts the run.

    Returns:
        The configuration, and the device that `trainer=` comes to.

    Raises:
        ConfigError: all mistakes in one message.
    """
    cfg = load_config("evaluate", ["editor=none", "output_dir=runs/analysis", *words])
    assert isinstance(cfg, EvaluateConfig)
    return cfg, start(cfg).device


def exit_code(command: Callable[[], None]) -> int:
    """Runs a command: 0, or 2 after an error that the user can fix."""
    try:
        command()
    except TmkeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0
