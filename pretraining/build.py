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
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from configs.pretraining import PretrainOptions
from errors import ConfigError
from models.minigpt4 import MiniGPT4Config, MiniGPT4ForConditionalGeneration
from pretraining.tokenizer import IMAGE

VISION_STD = 0.02  # BLIP-2's own default, 1e-10, is meant for weights that are loaded afterwards


def build_tiny(
    family: str, settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast
) -> PreTrainedModel:
    """A randomly initialised model for a tokenizer; `settings.seed` decides the weights.

    Raises:
        ConfigError: there is no tiny model of this family.
    """
    if family not in _BUILDERS:
        raise ConfigError(
            f"model.family={family} has no tiny twin to pretrain; accepted: {sorted(_BUILDERS)}."
        )
    torch.manual_seed(settings.seed)
    return _BUILDERS[family](settings, tokenizer)


def _llava(settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    vision = CLIPVisionConfig(**_tower(settings), projection_dim=settings.vision_width)
    config = LlavaConfig(
        vision_config=vision,
        text_config=_llama(settings, tokenizer),
        image_token_index=_image_id(tokenizer),
        image_seq_length=settings.image_tokens,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        **_special(tokenizer),
    )
    return LlavaForConditionalGeneration(config)


def _blip2(settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    text = OPTConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        word_embed_proj_dim=settings.width,
        ffn_dim=settings.mlp_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        init_std=settings.init_std,
        dropout=0.0,
        attention_dropout=0.0,
        layerdrop=0.0,
        **_special(tokenizer),
    )
    config = Blip2Config(
        vision_config=_vision(settings).to_dict(),
        qformer_config=_qformer(settings, tokenizer).to_dict(),
        text_config=text.to_dict(),
        num_query_tokens=settings.image_tokens,
        image_token_index=_image_id(tokenizer),
    )
    model = Blip2ForConditionalGeneration(config)
    torch.nn.init.normal_(model.query_tokens, std=VISION_STD)  # zero queries would stay equal
    return model


def _minigpt4(settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    config = MiniGPT4Config(
        vision_config=_vision(settings),
        qformer_config=_qformer(settings, tokenizer),
        text_config=_llama(settings, tokenizer),
        num_query_tokens=settings.image_tokens,
        image_token_index=_image_id(tokenizer),
        **_special(tokenizer),
    )
    return MiniGPT4ForConditionalGeneration(config)


_BUILDERS: Mapping[str, Callable[[PretrainOptions, PreTrainedTokenizerFast], PreTrainedModel]] = {
    "llava": _llava,
    "blip2": _blip2,
    "minigpt4": _minigpt4,
}


def _llama(settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.width,
        intermediate_size=settings.mlp_width,
        num_hidden_layers=settings.layers,
        num_attention_heads=settings.heads,
        num_key_value_heads=settings.heads,
        max_position_embeddings=settings.max_positions,
        initializer_range=settings.init_std,
        tie_word_embeddings=True,
        **_special(tokenizer),
    )


def _vision(settings: PretrainOptions) -> Blip2VisionConfig:
    return Blip2VisionConfig(**_tower(settings), initializer_range=VISION_STD)


def _tower(settings: PretrainOptions) -> dict[str, int]:
    return {
        "hidden_size": settings.vision_width,
        "intermediate_size": settings.vision_mlp_width,
        "num_hidden_layers": settings.vision_layers,
        "num_attention_heads": settings.heads,
        "image_size": settings.image_size,
        "patch_size": settings.patch_size,
    }


def _qformer(settings: PretrainOptions, tokenizer: PreTrainedTokenizerFast) -> Blip2QFormerConfig:
    return Blip2QFormerConfig(
        vocab_size=len(tokenizer),
        hidden_size=settings.vision_width,
        intermediate_size=settings.vision_mlp_width,
        num_hidden_layers=settings.qformer_layers,
        num_attention_heads=settings.heads,
        encoder_hidden_size=settings.vision_width,
        cross_attention_frequency=1,  # in every layer: there are only two
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
    )


def _special(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _image_id(tokenizer: PreTrainedTokenizerFast) -> int:
    return int(tokenizer.convert_tokens_to_ids(IMAGE))
