"""Loading a base model and its processor from a local folder or a hub id."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    PretrainedConfig,
    PreTrainedTokenizerBase,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from errors import ModelError
from models.editable import EditableModel
from models.llava import Llava

log = logging.getLogger(__name__)
Dtype = Literal["auto", "float32", "bfloat16", "float16"]
_FAMILIES = {"llava": (LlavaForConditionalGeneration, Llava)}
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Processor:
    """What turns words and pictures into a base model's inputs.

    Attributes:
        tokenizer: fast tokenizer.
        pixels: PIL image -> (C, H, W) float tensor.
        image_slots: picture tokens per picture.
        image_token_id: the id that fills them.
    """

    tokenizer: PreTrainedTokenizerBase
    pixels: Callable[[Image.Image], Tensor]
    image_slots: int
    image_token_id: int


def load_processor(family: str, path: str, *, revision: str | None = None) -> Processor:
    """Loads tokenizer and image processor; light, so that data can be checked before weights load.

    Args:
        family: the model family, as in the model config.
        path: local folder or hub id.
        revision: commit of the hub repository.

    Raises:
        ModelError: a file is missing, or the folder is of another family.
    """
    config = _config(family, path, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision or "main")
        images = CLIPImageProcessorPil.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.path {path!r} has no usable tokenizer or image processor: {error}"
        ) from error
    vision = config.vision_config

    def pixels(image: Image.Image) -> Tensor:
        return torch.as_tensor(images(images=image, return_tensors="np")["pixel_values"][0])

    return Processor(
        tokenizer=tokenizer,
        pixels=pixels,
        image_slots=(vision.image_size // vision.patch_size) ** 2,
        image_token_id=config.image_token_index,
    )


def load_text_config(family: str, path: str, *, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a base model's language model, without weights.

    Args:
        family: the model family, as in the model config.
        path: local folder or hub id.
        revision: commit of the hub repository.

    Raises:
        ModelError: it cannot be read, or is of another family.
    """
    return _config(family, path, revision).get_text_config()


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
    _config(family, path, revision)
    check_manifest(Path(path))
    hf_class, wrapper = _FAMILIES[family]
    try:
        hf, info = hf_class.from_pretrained(
            path,
            revision=revision or "main",
            dtype=_torch_dtype(dtype, device),
            attn_implementation=attention,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"the weights in {path!r} cannot be loaded: {error}") from error
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
    return wrapper(hf if device is None else hf.to(device))


def check_manifest(folder: Path) -> None:
    """Compares the files of a model that this project made with the hashes in its manifest.

    Raises:
        ModelError: a file is missing or changed.
    """
    path = folder / _MANIFEST
    if not path.is_file():
        return
    for name, expected in json.loads(path.read_text(encoding="utf-8")).get("sha256", {}).items():
        file = folder / name
        found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"
        if found != expected:
            raise ModelError(
                f"{file} does not match its manifest (sha256 {found[:12]}, expected "
                f"{expected[:12]}): it is damaged or was replaced. Fetch it again or repeat the "
                "pretraining."
            )


def _config(family: str, path: str, revision: str | None) -> PretrainedConfig:
    if family not in _FAMILIES:
        raise ModelError(f"model.family {family!r} is unknown; accepted: {sorted(_FAMILIES)}.")
    if _looks_local(path) and not Path(path).is_dir():
        raise ModelError(
            f"model.path is {path!r}, and there is no such folder. Give a folder with "
            "config.json, weights, tokenizer and image processor, or a hub id."
        )
    try:
        config = AutoConfig.from_pretrained(path, revision=revision or "main")
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.path {path!r} gives no readable config.json: {error} Give a local folder, or "
            "a hub id that can be reached (HF_HUB_OFFLINE=1 allows only downloaded ones)."
        ) from error
    if config.model_type != family:
        raise ModelError(
            f"model.path {path!r} holds a {config.model_type!r} model, and model.family is "
            f"{family!r}. Choose the config of that family or another folder."
        )
    return config


def _looks_local(path: str) -> bool:
    return path.startswith((".", "/", "~")) or path.count("/") != 1 or Path(path).exists()


def _torch_dtype(dtype: Dtype, device: torch.device | None) -> torch.dtype:
    if dtype == "auto":
        on_gpu = device is not None and device.type == "cuda"
        return torch.bfloat16 if on_gpu else torch.float32
    return getattr(torch, dtype)
