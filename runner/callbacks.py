"""Callbacks that a user names in the configuration (`callbacks`), and the profiler's report."""

from __future__ import annotations

import os
import sys
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback

from configs.schema import EditingConfig
from errors import ConfigError


def user_callbacks(cfg: EditingConfig) -> list[Callback]:
    """The callbacks of the group-less key `callbacks`, in its order.

    Modules are looked up as Python does, and in the working directory.

    Raises:
        ConfigError: a class cannot be imported, does not take its arguments, or is no callback.
    """
    if cfg.callbacks and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    return [_made(name, given) for name, given in cfg.callbacks.items()]


def _made(name: str, given: dict[str, Any]) -> Callback:
    key = f"callbacks.{name}._target_={given['_target_']}"
    try:
        made = instantiate(given)
    except HydraException as error:
        cause = " ".join(str(error.__cause__ or error).split())
        raise ConfigError(
            f"{key}: it cannot be made of {_arguments(given)} ({cause}). Name a class by its "
            "module, in a package or a file of the working directory, and arguments that it takes."
        ) from error
    if not isinstance(made, Callback):
        raise ConfigError(
            f"{key}: that makes a {type(made).__name__}, and a callback of Lightning is needed "
            "(a subclass of lightning.pytorch.callbacks.Callback)."
        )
    return made


def _arguments(given: dict[str, Any]) -> str:
    words = [f"{key}={value!r}" for key, value in given.items() if key != "_target_"]
    return ", ".join(words) or "no arguments"
