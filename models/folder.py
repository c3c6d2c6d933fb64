"""The folder or hub repository of a base model: its configuration and whether it is intact."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from transformers import AutoConfig, PretrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from errors import ModelError
from models.families import FAMILIES, family_of
from models.unreadable import UNREADABLE, absent_files, reason

MANIFEST = "manifest.json"


def read_config(family: str, path: str, revision: str | None = None) -> PretrainedConfig:
    """The configuration of a base model, without weights.

    Raises:
        ModelError: it cannot be read, is of another family, or cannot be edited at all.
    """
    model_type = family_of(family).model_type
    if is_local(path) and not Path(path).is_dir():
        raise ModelError(
            f"model.path is {path!r}, and there is no such folder. Give a folder with "
            "config.json, weights, tokenizer and image processor, or a hub id."
        )
    try:
        config = AutoConfig.from_pretrained(path, revision=revision or "main")
    except UNREADABLE as error:
        raise ModelError(
            f"model.path {path!r} gives no config.json that can be read: {reason(error)}"
            f"{absent_files(path, 'config.json')} Give a local folder, or a hub id that can be "
            "reached (HF_HUB_OFFLINE=1 allows only downloaded ones)."
        ) from error
    if model_type is None:
        _check_any(config, path)
    elif config.model_type != model_type:
        fitting = [name for name, kind in FAMILIES.items() if kind.model_type == config.model_type]
        hint = f"model.family={fitting[0]} reads it" if fitting else "try model=auto for it"
        raise ModelError(
            f"model.path {path!r} holds a {config.model_type!r} model, and model.family is "
            f"{family!r}. Choose another folder, or another model ({hint})."
        )
    return config


def _check_any(config: PretrainedConfig, path: str) -> None:
    """What model=auto accepts: a multimodal LLM with a decoder alone."""
    kind = config.model_type
    families = [name for name, family in FAMILIES.items() if family.model_type == kind]
    if families and not FAMILIES[families[0]].image_token:
        what = "whose pictures need no token of the vocabulary"
    elif type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        what = "which sees no pictures or is not known to transformers' AutoModelForImageTextToText"
    elif config.is_encoder_decoder or config.get_text_config().is_encoder_decoder:
        what = "an encoder-decoder, and edits are written for decoder layers alone"
    else:
        return
    hint = f" model.family={families[0]} reads it." if families else ""
    raise ModelError(
        f"model.path {path!r} holds a {kind!r} model, {what}.{hint} model=auto accepts multimodal "
        "LLMs such as qwen2_vl, qwen2_5_vl, llava_onevision, internvl and gemma3."
    )


def check_manifest(folder: Path) -> None:
    """Compares the files of a model that this project made with the hashes in its manifest.

    Raises:
        ModelError: a file is missing or changed.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return
    for name, expected in json.loads(path.read_text(encoding="utf-8")).get("sha256", {}).items():
        file = folder / name
        digest = sha256(file) if file.is_file() else "no file"
        if digest != expected:
            raise ModelError(
                f"{file} does not match its manifest (sha256 {digest[:12]}, expected "
                f"{expected[:12]}): it is damaged or was replaced. Fetch it again, or make the "
                "model anew (pretrain.py, python -m models.minigpt4 convert)."
            )


def sha256(path: Path) -> str:
    """Hash of a file of any size, read piece by piece."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_local(path: str) -> bool:
    """Whether a model's path names a folder rather than a repository of the hub."""
    return path.startswith((".", "/")) or path.count("/") != 1 or Path(path).exists()
