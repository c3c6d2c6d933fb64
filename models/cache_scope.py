"""What tells a base model and its arithmetic from all others, for the cache on the disk."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
import transformers

from caching.entries import digest
from caching.scope import Scope
from models.editable import EditableModel

ENGINE = 1  # raised where the engine comes to other numbers, or what is stored to another form
_NOT_OF_THE_NUMBERS = ("_name_or_path", "transformers_version")  # in config.json


def scope_of(model: EditableModel, label: str) -> Scope:
    """The scope of a model's entries.

    Args:
        model: the base model.
        label: how a user calls it.
    """
    config = model.hf.config
    settings = config.to_dict()
    for key in _NOT_OF_THE_NUMBERS:
        settings.pop(key, None)
    facts = {
        "engine": str(ENGINE),
        "fingerprint": model.fingerprint(),
        "family": model.family,
        "config": digest(json.dumps(settings, sort_keys=True, default=str)).hex(),
        "dtype": str(model.dtype),
        "attention": str(config.get_text_config()._attn_implementation),
        "quantised": str(getattr(model.hf, "quantization_method", None)),
        "device": model.device.type,
        "matmul": torch.get_float32_matmul_precision(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }
    return Scope(label, facts, model.dtype)


def record_key(folder: Path, settings: Iterable[str]) -> bytes:
    """The key of what is noted of a model's files (`caching.records`).

    Args:
        folder: of the files.
        settings: those under which the model is loaded and run.
    """
    versions = (str(ENGINE), torch.__version__, transformers.__version__)
    matmul = torch.get_float32_matmul_precision()
    return digest("record", str(folder.resolve()), matmul, *versions, *settings)
