"""The families of base models: which class reads one, how it takes pictures and how it is asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from transformers import (
    AutoModelForImageTextToText,
    LlavaForConditionalGeneration,
    PretrainedConfig,
)
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from errors import ModelError
from models.auto import AutoMLLM
from models.blip2 import Blip2, Blip2ForConditionalGeneration
from models.chat import ChatForm
from models.editable import EditableModel
from models.llava import Llava
from models.minigpt4 import MiniGPT4, MiniGPT4ForConditionalGeneration

CLASSLESS = ("siglip_vision_model",)  # towers of patches alone, without a class token in front


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        model_type: what its config.json says; None for any.
        hf: transformers' class.
        wrapper: hf model -> editing interface.
        images: the image processor's class, in its PIL form on every machine, so that pixels do not
            depend on whether torchvision is there. None: what the model's own folder says.
        slots: features, and so tokens, of a picture; None where only its processor knows.
        chat: the native prompt; None where only the model's folder may know it.
        before_bos: a picture's tokens come before BOS and not right after it.
        image_token: whether the tokenizer must know the image token.
    """

    model_type: str | None
    hf: Any  # from_pretrained is untyped
    wrapper: Callable[[Any], EditableModel]
    images: Any = None
    slots: Callable[[PretrainedConfig], int] | None = None
    chat: ChatForm | None = None
    before_bos: bool = False
    image_token: bool = False


def _patches(config: PretrainedConfig) -> int:
    vision = config.vision_config
    has_class = vision.model_type not in CLASSLESS
    class_token = int(has_class and config.vision_feature_select_strategy == "full")
    return (vision.image_size // vision.patch_size) ** 2 + class_token


def _queries(config: PretrainedConfig) -> int:
    return config.num_query_tokens


FAMILIES: Mapping[str, Family] = {
    "llava": Family(
        model_type="llava",
        hf=LlavaForConditionalGeneration,
        wrapper=Llava,
        images=CLIPImageProcessorPil,
        slots=_patches,
        chat=ChatForm(
            "USER: {question} ASSISTANT:", "USER: {picture}\n{question} ASSISTANT:"
        ),  # the chat template beside llava-1.5-7b-hf
        image_token=True,
    ),
    "blip2": Family(
        model_type="blip-2",
        hf=Blip2ForConditionalGeneration,
        wrapper=Blip2,
        images=BlipImageProcessorPil,
        slots=_queries,
        chat=ChatForm(
            "Question: {question} Answer:", "{picture}Question: {question} Answer:"
        ),  # Li et al. 2023, section 4.1: the VQA prompt of OPT
        before_bos=True,
    ),
    "minigpt4": Family(
        model_type="minigpt4",
        hf=MiniGPT4ForConditionalGeneration,
        wrapper=MiniGPT4,
        images=BlipImageProcessorPil,
        slots=_queries,
        chat=ChatForm(
            "###Human: {question} ###Assistant:",
            "###Human: <Img>{picture}</Img> {question} ###Assistant:",
        ),  # Zhu et al. 2023, section 3.2, and prompt_template of the released configuration
    ),
    "auto": Family(
        model_type=None,
        hf=AutoModelForImageTextToText,
        wrapper=AutoMLLM.of_loaded,
        image_token=True,
    ),
}


def family_of(name: str) -> Family:
    """The family that `model.family` names.

    Raises:
        ModelError: there is none.
    """
    if name not in FAMILIES:
        raise ModelError(f"model.family {name!r} is unknown; accepted: {sorted(FAMILIES)}.")
    return FAMILIES[name]


def without_weights(family: str, config: PretrainedConfig, dtype: torch.dtype) -> EditableModel:
    """The editing interface of a model on torch's meta device: every shape, and no memory.

    A 7B model is there within a second.

    Raises:
        ModelError: the family cannot wrap such a model.
    """
    entry = family_of(family)
    build = getattr(entry.hf, "_from_config", None) or entry.hf.from_config
    with torch.device("meta"):
        hf = build(config, dtype=dtype)
    return entry.wrapper(hf)
