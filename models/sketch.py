"""A base model without its weights: every shape, on torch's meta device."""

from __future__ import annotations

import torch
from transformers import PretrainedConfig

from models.editable import EditableModel
from models.families import family_of


def sketch(family: str, config: PretrainedConfig, dtype: torch.dtype) -> EditableModel:
    """The editing interface of a model that takes no memory; a 7B one is there within a second.

    Args:
        family: the model family, as in the model config.
        config: the model's configuration.
        dtype: number type that the weights would have.

    Raises:
        ModelError: the family cannot wrap such a model.
    """
    kind = family_of(family)
    build = getattr(kind.hf, "_from_config", None) or kind.hf.from_config
    with torch.device("meta"):
        hf = build(config, dtype=dtype)
    return kind.wrapper(hf)
