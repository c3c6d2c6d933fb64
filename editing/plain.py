"""What a folder needs to be opened by transformers alone, without this project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.editable import EditableModel
from models.families import family_of
from models.files import read_json
from models.minigpt4 import modeling
from models.own_processor import COUNTS

_CODE = "modeling_minigpt4"
_IMAGE = "<image>"


def take_code_along(folder: Path) -> None:
    """Puts MiniGPT-4's class, which transformers has not, beside its weights (`auto_map`)."""
    shutil.copyfile(modeling.__file__, folder / f"{_CODE}.py")
    path = folder / "config.json"
    config = read_json(path) or {}
    config["auto_map"] = {
        "AutoConfig": f"{_CODE}.{modeling.MiniGPT4Config.__name__}",
        "AutoModelForImageTextToText": (
            f"{_CODE}.{modeling.MiniGPT4ForConditionalGeneration.__name__}"
        ),
    }
    _write(path, config)


def complete_processor(folder: Path, model: EditableModel) -> tuple[str, ...]:
    """Writes how many tokens a picture takes, where the base's folder does not say it.

    This project counts them by config.json; transformers' own processor is told. That of BLIP-2
    makes its image token itself, and fails where the tokenizer has an attribute of this name.

    Returns:
        A sentence if something was written.
    """
    settings = _settings(model)
    if not settings or (folder / COUNTS).exists():
        return ()
    _write(folder / COUNTS, settings)
    if model.family == "blip2":
        path = folder / "tokenizer_config.json"
        known = read_json(path) or {}
        if known.pop("image_token", None) is not None:
            _write(path, known)
    return (
        f"{COUNTS}, which the base has not, says how many tokens a picture takes, so that "
        f"{settings['processor_class']} opens",
    )


def how_to_open(folder: Path, family: str, name: str) -> tuple[str, ...]:
    """Sentences on what opens a merged model.

    Args:
        folder: where it lies now.
        family: `model.family`.
        name: where it will lie, as it is shown.
    """
    ours = f"here: open_model({name!r}), or model={family} model.path={name}"
    if family == "minigpt4":
        return (
            "transformers has no class of MiniGPT-4, so the folder has its code: "
            f"AutoModelForImageTextToText.from_pretrained({name!r}, trust_remote_code=True); "
            "AutoTokenizer and AutoImageProcessor for words and pictures (there is no processor "
            f"for both: {_slots(folder)} tokens of id -1 stand for a picture, after BOS)",
            ours,
        )
    return (
        f"AutoModelForImageTextToText.from_pretrained({name!r}) opens it, AutoProcessor its "
        "tokenizer and image processor",
        ours,
    )


def _slots(folder: Path) -> int:
    return int((read_json(folder / "config.json") or {})["num_query_tokens"])


def _write(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _settings(model: EditableModel) -> dict[str, Any]:
    config: Any = model.hf.config
    if model.family == "llava":
        slots = family_of("llava").slots
        assert slots is not None
        side = config.vision_config.image_size // config.vision_config.patch_size
        is_default = config.vision_feature_select_strategy == "default"
        return {
            "processor_class": "LlavaProcessor",
            "image_token": _IMAGE,
            "patch_size": config.vision_config.patch_size,
            "vision_feature_select_strategy": config.vision_feature_select_strategy,
            "num_additional_image_tokens": slots(config) + is_default - side * side,
        }
    if model.family == "blip2":
        return {"processor_class": "Blip2Processor", "num_query_tokens": config.num_query_tokens}
    return {}
