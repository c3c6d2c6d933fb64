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
from results.files import replacing_folder, write_text

PACKAGES = ("torch", "transformers", "tokenizers", "lightning", "safetensors", "pillow", "numpy")


def targets(options: PretrainOptions) -> dict[str, float]:
    """What a model has to reach, by kind of question; of pictures, what its alignment teaches."""
    picture = "identity_" if options.by_naming else ""
    return {
        "text": options.text_target,
        f"{picture}seen": options.seen_target,
        f"{picture}unseen": options.unseen_target,
    }


def missed_targets(accuracies: Mapping[str, float], options: PretrainOptions) -> list[str]:
    """The targets that a model misses, in words; a world without pictures has the text one only."""
    return [
        f"{name} {accuracies[name]:.1f} % (target {target:.1f} %)"
        for name, target in targets(options).items()
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
) -> dict[str, Any]:
    """Write a model that `from_pretrained` reads.

    Args:
        folder: created if needed; what was there before goes.
        model: kept in single precision in memory.
        tokenizer: saved beside it.
        processor: saved beside it.

    Returns:
        Number of parameters, versions, and the sha256 of every file, for the manifest.

    Raises:
        ModelError: a weight is not finite in half precision.
        UnwritableError: naming the folder, which is as it was.
    """
    if not all(bool(p.half().isfinite().all()) for p in model.parameters()):
        raise ModelError(
            f"{folder}: a weight is not finite in half precision, so the model was not saved. The "
            "training diverged: lower lr and vision_lr."
        )
    with replacing_folder(folder) as temporary:
        model.half().save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        processor.save_pretrained(temporary)
    model.float()
    versions = {package: version(package) for package in PACKAGES}
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "versions": {"python": platform.python_version(), **versions},
        "sha256": {path.name: sha256(path) for path in sorted(folder.iterdir()) if path.is_file()},
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Write what is known about the model in a folder."""
    write_text(folder / MANIFEST, json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def world_summary(world: World) -> dict[str, Any]:
    """Which world was taught: digest, sizes, and the generator's options where it was drawn."""
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
