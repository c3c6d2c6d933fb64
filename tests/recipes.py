"""The shipped pretraining recipe, with whatever a test changes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.check import load_config
from configs.pretraining import PretrainOptions
from configs.schema import PretrainConfig

# Every part of a model once, and a few steps.
SMALL = {
    "width": 32,
    "layers": 2,
    "heads": 2,
    "mlp_width": 48,
    "vision_width": 32,
    "vision_layers": 1,
    "vision_mlp_width": 48,
    "qformer_layers": 1,
    "mask_layers": 1,
    "lens_layer": 0,
    "text_rows": 6,
    "image_rows": 6,
    "identity_rows": 2,
    "refusal_rows": 2,
    "chain_rows": 3,
    "context_rows": 3,
    "extra_pictures": 4,
    "context_warmup": 2,
    "steps": 5,
    "warmup_steps": 2,
}


def pretrain_config(*words: str, **changes: Any) -> PretrainConfig:
    """What pretrain.py gets for some words, with changes of the recipe."""
    config = load_config("pretrain", words)
    assert isinstance(config, PretrainConfig)
    recipe = PretrainOptions(**(config.pretrain.model_dump() | changes))
    return config.model_copy(update={"pretrain": recipe})


def recipe(**changes: Any) -> PretrainOptions:
    return pretrain_config(**changes).pretrain


def folder_words(root: Path, model: str = "llava_tiny") -> list[str]:
    """Words of a run that takes its world from a folder and accepts whatever it becomes."""
    return [
        f"model={model}", "data=folder", f"data.root={root}", "gate=false",
        "trainer.enable_progress_bar=false",
    ]  # fmt: skip
