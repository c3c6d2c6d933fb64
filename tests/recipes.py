"""The shipped pretraining recipe, with whatever a test changes of it."""

from __future__ import annotations

from typing import Any

from configs.check import load_config
from configs.pretraining import PretrainOptions
from configs.schema import PretrainConfig


def recipe(**changes: Any) -> PretrainOptions:
    config = load_config("pretrain")
    assert isinstance(config, PretrainConfig)
    return PretrainOptions(**(config.pretrain.model_dump() | changes))
