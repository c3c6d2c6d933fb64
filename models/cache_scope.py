"""What tells a base model and its arithmetic from all others, for the cache on the disk."""

from __future__ import annotations

import json

import torch
import transformers

from caching.entries import digest
from caching.scope import Scope
from models.editable import EditableModel

ENGINE = 1  # raised where the engine comes to other numbers, or what is stored to another form
_NOT_OF_THE_NUMBERS = ("_name_or_path", "transformers_version")  # in config.json


def scope_of(model: EditableModel, label: str, fingerprint: str | None = None) -> Scope:
    """The scope of a model's entries.

    Args:
        model: the base model; where not all of its weights are loaded, `fingerprint` is needed.
        label: how a user calls it.
        fingerprint: of all its weights.
    """
    config = model.hf.config
    settings = config.to_dict()
    for key in _NOT_OF_THE_NUMBERS:
        settings.pop(key, None)
    facts = {
        "engine": str(ENGINE),
        "fingerprint": fingerprint or model.fingerprint(),
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
