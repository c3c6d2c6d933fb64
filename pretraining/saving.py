"""The folder of a taught model: weights in half precision, tokenizer, processor and manifest."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from transformers.image_processing_utils import BaseImageProcessor

from configs.pretraining import PretrainOptions
from datamodules.world import World
from datamodules.world.schema import WORLD_FILE
from errors import ModelError
from models.folder import MANIFEST, sha256

PACKAGES = ("torch", "transformers", "tokenizers", "lightning", "safetensors", "pillow", "numpy")


def missed_targets(accuracies: Mapping[str, float], settings: PretrainOptions) -> list[str]:
    """The targets that a model misses, in words; a world without pictures has the text one only."""
    targets = {
        "text": settings.text_target,
        "seen": settings.seen_target,
        "unseen": settings.unseen_target,
    }
    return [
        f"{name} {accuracies[name]:.1f} % (target {target:.1f} %)"
        for name, target in targets.items()
        if name in accuracies and accuracies[name] < target
    ]


@torch.no_grad()
def round_to_half(model: PreTrainedModel) -> None:
    """Give every weight the value that it will have in the file, so that tests see the same."""
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def save_tiny(
    folder: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    processor: BaseImageProcessor,
    manifest: Mapping[str, Any],
) -> dict[str, Any]:
    """Write a model that `from_pretrained` reads, and what is known about it.

    Args:
        folder: created if needed; files of the same names are replaced.
        model: kept in single precision in memory.
        tokenizer: saved beside it.
        processor: saved beside it.
        manifest: recipe and results; files and versions are added.

    Returns:
        The manifest as written.

    Raises:
        ModelError: a weight is not finite in half precision.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not all(bool(p.half().isfinite().all()) for p in model.parameters()):
        raise ModelError(
            f"{folder}: a weight is not finite in half precision, so the model was not saved. The "
            "training diverged: lower lr and vision_lr."
        )
    model.half().save_pretrained(folder)
    model.float()
    tokenizer.save_pretrained(folder)
    processor.save_pretrained(folder)
    written = {
        **manifest,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in PACKAGES},
        },
        "sha256": {
            path.name: sha256(path)
            for path in sorted(folder.iterdir())
            if path.is_file() and path.name != MANIFEST
        },
    }
    text = json.dumps(written, indent=1, ensure_ascii=False)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return written


def world_summary(world: World) -> dict[str, Any]:
    """Which world was taught: digest, sizes, and the generator's settings where it was drawn."""
    described = world.root / WORLD_FILE
    content = json.loads(described.read_text(encoding="utf-8")) if described.is_file() else {}
    return {
        "name": world.name,
        "digest": world.digest,
        "split_seed": world.seed,
        "entities": len(world.entities),
        "facts": len(world.facts),
        "pictured": len(world.pictured),
        "nouns": {kind: world.noun(kind) for kind in world.types},
        "generator": content.get("generator", {}),
    }
