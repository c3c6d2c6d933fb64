"""Builds a LLaVA (Liu et al. 2023) around a local language model: tower, projector, one more token.

    p(answer | picture, question) = LM([begin; W_2 gelu(W_1 tower(picture)); question])

The class is transformers' own `LlavaForConditionalGeneration`. The language model keeps its weights
and the ids of its tokens; `<image>` is added behind them, with the mean of all rows as its own.
What is written is a folder as released models have it, in half precision; it is computed in float32
on a CPU, whose bfloat16 and float16 are slower by a factor of eight and more.
"""

from __future__ import annotations

import copy
import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    GenerationConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from errors import ConfigError, ModelError, some_of
from models.families import CLASSLESS
from models.folder import MANIFEST, sha256
from models.language_model import LanguageModel, without_bars
from models.language_tokenizer import with_image_token
from models.parts_folder import State, Tower
from results.files import check_writable, replacing_folder

IMAGE = "<image>"
PACKAGES = ("torch", "transformers", "tokenizers", "safetensors", "gguf")


@dataclass(frozen=True)
class Assembled:
    """A LLaVA and what turns words and pictures into its inputs.

    Attributes:
        model: in float32 and eval mode.
        processor: with the tokenizer (which knows `<image>`) and the image processor.
    """

    model: LlavaForConditionalGeneration
    processor: LlavaProcessor


def assemble(language: LanguageModel, tower: Tower, projector: State) -> Assembled:
    """Puts a language model, a vision tower and a projector together.

    Args:
        language: stays as it is; the new model shares its weights, but for the token table.
        tower: any vision model of transformers that gives one feature for a patch, with or without
            a class token in front.
        projector: `linear_1` and `linear_2`, weight and bias.

    Raises:
        ModelError: tower, projector and language model do not fit each other.
    """
    tokenizer = with_image_token(language.tokenizer, IMAGE)
    images = CLIPImageProcessorPil.from_dict(dict(tower.images))
    vision = _vision_config(tower.config)
    config = _config(language, vision, tokenizer)
    state = _language_state(language, config)
    state |= {f"model.vision_tower.{name}": value for name, value in tower.state.items()}
    state |= {f"model.multi_modal_projector.{name}": value for name, value in projector.items()}
    model = _load(config, state)
    ends = language.model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends.eos_token_id or tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    processor = LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=vision.patch_size,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
        num_additional_image_tokens=_class_tokens(config),
        image_token=IMAGE,
    )
    return Assembled(model, processor)


def save_assembled(
    folder: Path, built: Assembled, manifest: Mapping[str, Any], *, overwrite: bool = False
) -> dict[str, Any]:
    """Writes a folder that `from_pretrained` reads, whole or not at all.

    Args:
        folder: new or empty; or one that holds such a model, with `overwrite`.
        built: kept in single precision in memory.
        manifest: what is known of the model.
        overwrite: whether an earlier model gives way.

    Returns:
        The manifest with the number of parameters, versions (`built_with`) and the sha256 of every
        file.

    Raises:
        ConfigError: the folder is taken.
        ModelError: a weight is not finite in half precision.
        UnwritableError: naming the folder, which is as it was.
    """
    check_target(folder, overwrite=overwrite)
    half = copy.deepcopy(built.model).to("cpu", torch.float16)
    bad = [name for name, value in half.named_parameters() if not bool(value.isfinite().all())]
    if bad:
        raise ModelError(
            f"{folder}: {some_of(bad)} is not finite in half precision, so nothing was saved. The "
            "training diverged: lower its learning rate."
        )
    with replacing_folder(folder, overwrite=overwrite) as temporary, without_bars():
        half.save_pretrained(temporary)
        built.processor.save_pretrained(temporary)
        built.processor.tokenizer.save_pretrained(temporary)
        built.processor.image_processor.save_pretrained(temporary)
        known = {
            **manifest,
            "parameters": sum(parameter.numel() for parameter in built.model.parameters()),
            "built_with": {"python": platform.python_version(), **_versions()},
            "sha256": {path.name: sha256(path) for path in sorted(temporary.iterdir())},
        }
        text = json.dumps(known, indent=1, ensure_ascii=False) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
    return known


def check_target(folder: Path, *, overwrite: bool, key: str = "--output ") -> None:
    """Refuses a folder that cannot be written, or holds something that would be lost.

    Raises:
        ConfigError: with the reason.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{key}{folder} is a file; give a folder, new or empty.")
    check_writable(folder, key)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if not _is_ours(folder):
        raise ConfigError(
            f"{key}{folder} is not empty and holds no model that was built here; give another "
            "folder, or empty this one."
        )
    if not overwrite:
        raise ConfigError(
            f"{key}{folder} already holds a model; give another folder, or replace it: --overwrite."
        )


def _versions() -> dict[str, str]:
    """Of the packages that made it; a language model's folder needs no gguf."""
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _is_ours(folder: Path) -> bool:
    """Whether the folder holds what is written here: a LLaVA with a manifest, and nothing else."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        named = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    names = {path.name for path in folder.iterdir()}
    return config.get("model_type") == LlavaConfig.model_type and names <= {*named, MANIFEST}


def _vision_config(stated: Mapping[str, Any]) -> PretrainedConfig:
    kind = stated.get("model_type") or "clip_vision_model"
    try:
        return AutoConfig.for_model(**{**stated, "model_type": kind})
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"the vision tower's configuration ({kind}) cannot be read: {error}. Use a vision "
            "model of transformers, such as clip_vision_model or siglip_vision_model."
        ) from error


def _config(
    language: LanguageModel, vision: PretrainedConfig, tokenizer: PreTrainedTokenizerFast
) -> LlavaConfig:
    text = copy.deepcopy(language.model.config)
    rows = language.model.get_input_embeddings().weight.shape[0]
    special = {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": text.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    tied = _is_tied(language)
    for key, value in {**special, "vocab_size": max(rows, len(tokenizer))}.items():
        setattr(text, key, value)
    text.tie_word_embeddings = tied
    classless = vision.model_type in CLASSLESS
    return LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids(IMAGE),
        image_seq_length=(vision.image_size // vision.patch_size) ** 2,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full" if classless else "default",
        projector_hidden_act="gelu",
        tie_word_embeddings=tied,
        **special,
    )


def _class_tokens(config: LlavaConfig) -> int:
    """Features of a picture besides those of its patches."""
    return int(config.vision_feature_select_strategy == "default")


def _is_tied(language: LanguageModel) -> bool:
    """Whether the head is the token table, where a LLaVA looks for it.

    OPT has its table at another place; there the head becomes a matrix of its own.
    """
    hf: Any = language.model
    table, head = hf.get_input_embeddings().weight, hf.get_output_embeddings().weight
    at_its_place = getattr(hf.model, "embed_tokens", None) is hf.get_input_embeddings()
    return bool(at_its_place and table.data_ptr() == head.data_ptr())


@torch.no_grad()
def _language_state(language: LanguageModel, config: LlavaConfig) -> dict[str, Tensor]:
    """The language model's weights by a LLaVA's names, with a row for each new token."""
    hf: Any = language.model
    rows = config.text_config.vocab_size
    body = {name: value.cpu().float() for name, value in hf.model.state_dict().items()}
    (table,) = (name for name, module in hf.model.named_modules()
                if module is hf.get_input_embeddings())  # fmt: skip
    token = config.image_token_index
    body[f"{table}.weight"] = _widened(body[f"{table}.weight"], rows, token)
    state = {f"model.language_model.{name}": value for name, value in body.items()}
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state[f"model.language_model.{table}.weight"]
    else:
        head = hf.get_output_embeddings().weight.detach().cpu().float()
        state["lm_head.weight"] = _widened(head, rows, token)
    return state


def _widened(matrix: Tensor, rows: int, token: int) -> Tensor:
    """(V, d) -> (rows, d): new rows, and that of a token, are the mean of the others."""
    known = matrix[: min(token, len(matrix))]
    mean = known.mean(0, keepdim=True)
    wide = torch.cat([matrix, mean.expand(rows - len(matrix), -1)])
    wide[token] = mean[0]
    return wide


@torch.no_grad()
def _load(config: LlavaConfig, state: Mapping[str, Tensor]) -> LlavaForConditionalGeneration:
    """A model of these weights, none of which may be missing or left over.

    Raises:
        ModelError: one is, or the tower gives another number of features than there are patches.
    """
    with without_bars():
        model, info = LlavaForConditionalGeneration.from_pretrained(
            None, config=config, state_dict=dict(state), dtype=torch.float32,
            output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    wrong = {
        "missing": sorted(map(str, info.get("missing_keys", ()))),
        "unknown": sorted(map(str, info.get("unexpected_keys", ()))),
        "of another shape": [str(key[0]) for key in info.get("mismatched_keys", ())],
    }
    if any(wrong.values()):
        listed = "; ".join(f"{kind}: {some_of(names)}" for kind, names in wrong.items() if names)
        raise ModelError(
            "vision tower, projector and language model do not fit each other (of a width of "
            f"{config.vision_config.hidden_size} and {config.text_config.hidden_size}): {listed}. "
            "Use parts that were trained for this language model: python pretrain.py "
            "model=smollm_llava language_model.path=PATH."
        )
    side = config.vision_config.image_size
    features = model.model.get_image_features(
        pixel_values=torch.zeros(1, 3, side, side),
        vision_feature_layer=config.vision_feature_layer,
        vision_feature_select_strategy=config.vision_feature_select_strategy,
    ).pooler_output[0]
    if len(features) != config.image_seq_length:
        raise ModelError(
            f"a vision tower {config.vision_config.model_type!r} gives {len(features)} features of "
            f"a picture of {config.image_seq_length} patches. Use one with a feature for each "
            f"patch and a class token in front, or without one as {', '.join(CLASSLESS)}."
        )
    return model.eval()
