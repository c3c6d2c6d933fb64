"""Loading the weights of a base model from a local folder or a hub id."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import PretrainedConfig

from errors import ModelError
from models.editable import EditableModel
from models.families import family_of
from models.folder import check_manifest, read_config

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def load_text_config(family: str, path: str, *, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a base model's language model, without weights.

    Args:
        family: the model family, as in the model config.
        path: local folder or hub id.
        revision: commit of the hub repository.

    Raises:
        ModelError: it cannot be read, or is of another family.
    """
    return read_config(family, path, revision).get_text_config()


def load_model(
    family: str,
    path: str,
    *,
    revision: str | None = None,
    dtype: Dtype = "auto",
    attention: str = "sdpa",
    device: torch.device | None = None,
) -> EditableModel:
    """Loads a base model, frozen.

    Args:
        family: the model family, as in the model config.
        path: local folder or hub id.
        revision: commit of the hub repository.
        dtype: `auto` is bfloat16 on a GPU and float32 elsewhere.
        attention: transformers' attention implementation.
        device: where the weights go; None for the CPU.

    Raises:
        ModelError: files are missing, damaged or of another family, or a weight would be left at
            its random initial value.
    """
    read_config(family, path, revision)
    check_manifest(Path(path))
    kind = family_of(family)
    try:
        hf, info = kind.hf.from_pretrained(
            path,
            revision=revision or "main",
            dtype=torch_dtype(dtype, device),
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the weights in {path!r} cannot be loaded: {error}") from error
    check_complete(info, family, path)
    return kind.wrapper(hf if device is None else hf.to(device))


def check_complete(info: dict[str, Any], family: str, path: str) -> None:
    """Refuses weights that leave a parameter at its random initial value, or have one too many.

    Args:
        info: what `from_pretrained(output_loading_info=True)` tells.
        family: for the message.
        path: for the message.

    Raises:
        ModelError: a key is missing, unexpected or of another shape.
    """
    wrong = {
        kind: sorted(str(key) for key in info[kind])
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
        if info.get(kind)
    }
    if wrong:
        listed = "; ".join(f"{kind}: {keys[:5]}" for kind, keys in wrong.items())
        raise ModelError(
            f"the weights in {path!r} do not fit a {family} model: {listed}. A missing weight "
            "would stay at its random initial value; use a complete checkpoint of this family."
        )


def torch_dtype(dtype: Dtype, device: torch.device | None) -> torch.dtype:
    """The number type of the weights on a device."""
    if dtype == "auto":
        on_gpu = device is not None and device.type == "cuda"
        return torch.bfloat16 if on_gpu else torch.float32
    return getattr(torch, dtype)
