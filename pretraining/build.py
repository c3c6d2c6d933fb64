"""The tiny twins: each family's own class, at most a few million parameters, randomly initialised.

    llava      a CLIP tower looks at four patches, a two-layer projector turns them into four tokens
    blip2      BLIP-2's ViT, a two-layer Q-Former with four queries, a linear map, OPT
    minigpt4   the same picture path into Llama, as the project's own MiniGPT-4 class

Nothing in a class is changed, so a saved model loads anywhere that the class does. All language
models have four layers and tied embeddings, and none of the models has dropout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from configs.pretraining import PretrainOptions
from errors import ConfigError
from models.minigpt4 import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from pretraining.tokenizer import IMAGE

VISION_STD = 0.02  # BLIP-2's own default, 1e-10, is meant for weights that are loaded afterwards


def build_tiny(
    family: str, options: PretrainOptions, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """A randomly initialised model for a tokenizer; `options.seed` decides the weights.

    Raises:
        ConfigError: there is no tiny model of this family.
    """
    if family not in _BUILDERS:
        raise ConfigError(
            f"model.family={family} has no tiny twin to pretrain; accepted: {sorted(_BUILDERS)}."
        )
    torch.manual_seed(options.seed)
    return _BUILDERS[family](options, tokenizer)


def _llava(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**_tower(options), projection_dim=options.vision_width),
        text_config=_llama(options, tokenizer),
        image_token_index=_image_id(tokenizer),
        image_seq_length=options.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **_special(tokenizer),
    )
    return LlavaForConditionalGeneration(config)


def _blip2(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    text = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        word_embed_proj_dim=options.width,
        ffn_dim=options.mlp_width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        max_position_embeddings=options.max_positions,
        init_std=options.init_std,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
        **_special(tokenizer),
    )
    parts = {"text_config": text, **_picture_path(options, tokenizer)}
    config = Blip2Config(
        **{name: part.to_dict() for name, part in parts.items()},
        num_query_tokens=options.image_tokens,
        image_token_index=_image_id(tokenizer),
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens, std=VISION_STD)  # zero queries would stay equal
    return model


def _minigpt4(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = MiniGPT4Config(
        text_config=_llama(options, tokenizer),
        **_picture_path(options, tokenizer),
        num_query_tokens=options.image_tokens,
        image_token_index=_image_id(tokenizer),
        **_special(tokenizer),
    )
    return MiniGPT4ForConditionalGeneration(config)


_BUILDERS: Mapping[str, Callable[[PretrainOptions, PreTrainedTokenizerFast], PreTrainedModel]] = {
    "llava": _llava,
    "blip2": _blip2,
    "minigpt4": _minigpt4,
}


def _llama(options: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=options.width,
        intermediate_size=options.mlp_width,
        num_hidden_layers=options.layers,
        num_attention_heads=options.heads,
        num_key_value_heads=options.heads,
        max_position_embeddings=options.max_positions,
        initializer_range=options.init_std,
        tie_word_embeddings=True,
        **_special(tokenizer),
    )


def _picture_path(
    options: PretrainOptions, tokenizer: PreTrainedTokenizerFast
) -> dict[str, PretrainedConfig]:
    """BLIP-2's ViT and Q-Former."""
    tower = _tower(options)
    qformer = Blip2QFormerConfig(
        vocab_size=len(tokenizer),
        hidden_size=tower["hidden_size"],
        intermediate_size=tower["intermediate_size"],
        num_hidden_layers=options.qformer_layers,
        num_attention_heads=options.heads,
        encoder_hidden_size=tower["hidden_size"],
        cross_attention_frequency=1,  # in every layer: there are only two
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )
    vision = Blip2VisionConfig(**tower, initializer_range=VISION_STD)
    return {"vision_config": vision, "qformer_config": qformer}


def _tower(options: PretrainOptions) -> dict[str, int]:
    return {
        "hidden_size": options.vision_width,
        "intermediate_size": options.vision_mlp_width,
        "num_hidden_layers": options.vision_layers,
        "num_attention_heads": options.heads,
        "image_size": options.image_size,
        "patch_size": options.patch_size,
    }


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _image_id(tokenizer: PreTrainedTokenizerFast) -> int:
    return int(tokenizer.convert_tokens_to_ids(IMAGE))
