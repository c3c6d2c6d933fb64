"""Tiny random multimodal LLMs of families that no class of the project knows, saved as released."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hub
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

from tests.tokenizers_small import TEXT

WIDTH, INNER, LAYERS = 16, 24, 3
SPECIALS = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
    "<|image_pad|>", "<|video_pad|>", "<image>", "<fake_token_around_image>", "<end_of_utterance>",
    "<global-img>",
)  # fmt: skip
# Names under which families know the tokens of a picture.
EXTRA = {
    "image_token": "<|image_pad|>", "video_token": "<|video_pad|>", "boi_token": "<|vision_start|>",
    "eoi_token": "<|vision_end|>", "start_image_token": "<|vision_start|>",
    "end_image_token": "<|vision_end|>", "context_image_token": "<|image_pad|>",
}  # fmt: skip
TEXT_LAYERS = {
    "hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
    "max_position_embeddings": 2048, "initializer_range": 0.2, "tie_word_embeddings": False,
    "bos_token_id": None, "eos_token_id": 2,
}  # fmt: skip
CLIP_LIKE = {
    "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
SMALL = {"min_pixels": 64, "max_pixels": 16 * 24}  # a square of 16 pixels: 4 x 4 patches


def qwen_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without a BOS, as Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=330,
        special_tokens=[AddedToken(token, special=True) for token in SPECIALS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>",
        extra_special_tokens=EXTRA,
    )  # fmt: skip


def _ids(tokenizer: PreTrainedTokenizerFast) -> dict[str, int]:
    number = tokenizer.convert_tokens_to_ids
    return {
        "image_token_id": number("<|image_pad|>"), "video_token_id": number("<|video_pad|>"),
        "vision_start_token_id": number("<|vision_start|>"),
        "vision_end_token_id": number("<|vision_end|>"),
    }  # fmt: skip


Made = tuple[Any, Any, dict[str, Any]]  # model, image processor, processor_config.json


def qwen2_vl(ids: dict[str, int], vocabulary: int) -> Made:
    vision = {
        "depth": 2, "embed_dim": 16, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4,
        "hidden_size": WIDTH, "spatial_merge_size": 2, "temporal_patch_size": 2,
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = TEXT_LAYERS | {"vocab_size": vocabulary, "rope_parameters": rope}
    config = hub.Qwen2VLConfig(text_config=text, vision_config=vision, **ids)
    config.tie_word_embeddings = False
    images = hub.Qwen2VLImageProcessorPil(patch_size=4, **SMALL)
    return hub.Qwen2VLForConditionalGeneration(config), images, {}


def qwen2_5_vl(ids: dict[str, int], vocabulary: int) -> Made:
    vision = {
        "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "patch_size": 4,
        "out_hidden_size": WIDTH, "window_size": 16, "fullatt_block_indexes": [1],
    }  # fmt: skip
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
    text = TEXT_LAYERS | {"vocab_size": vocabulary, "rope_parameters": rope}
    config = hub.Qwen2_5_VLConfig(text_config=text, vision_config=vision, **ids)
    config.tie_word_embeddings = False
    images = hub.Qwen2VLImageProcessorPil(patch_size=4, **SMALL)
    return hub.Qwen2_5_VLForConditionalGeneration(config), images, {}


def llava_onevision(ids: dict[str, int], vocabulary: int) -> Made:
    config = hub.LlavaOnevisionConfig(
        vision_config=hub.SiglipVisionConfig(**CLIP_LIKE, vision_use_head=False),
        text_config=hub.Qwen2Config(vocab_size=vocabulary, **TEXT_LAYERS),
        image_token_id=ids["image_token_id"], video_token_id=ids["video_token_id"],
        image_grid_pinpoints=[[16, 16], [16, 32], [32, 16]], vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )  # fmt: skip
    images = hub.LlavaOnevisionImageProcessorPil(
        size={"height": 16, "width": 16}, image_grid_pinpoints=config.image_grid_pinpoints
    )
    said = {"num_image_tokens": 4, "vision_feature_select_strategy": "full"}
    return hub.LlavaOnevisionForConditionalGeneration(config), images, said


def llava_next(ids: dict[str, int], vocabulary: int) -> Made:
    config = hub.LlavaNextConfig(
        vision_config=hub.CLIPVisionConfig(**CLIP_LIKE),
        text_config=hub.MistralConfig(vocab_size=vocabulary, sliding_window=None, **TEXT_LAYERS),
        image_token_id=ids["image_token_id"], image_grid_pinpoints=[[16, 32], [32, 16]],
        vision_feature_layer=-1,
    )  # fmt: skip
    images = hub.LlavaNextImageProcessorPil(
        size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16},
        image_grid_pinpoints=config.image_grid_pinpoints,
    )  # fmt: skip
    said = {
        "patch_size": 8, "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    }  # fmt: skip
    return hub.LlavaNextForConditionalGeneration(config), images, said


def internvl(ids: dict[str, int], vocabulary: int) -> Made:
    vision = CLIP_LIKE | {"image_size": [16, 16], "patch_size": [4, 4]}
    config = hub.InternVLConfig(
        vision_config=hub.InternVLVisionConfig(**vision),
        text_config=hub.Qwen2Config(vocab_size=vocabulary, **TEXT_LAYERS),
        image_token_id=ids["image_token_id"], image_seq_length=4, vision_feature_layer=-1,
    )  # fmt: skip
    images = hub.GotOcr2ImageProcessorPil(size={"height": 16, "width": 16})
    return hub.InternVLForConditionalGeneration(config), images, {"image_seq_length": 4}


def idefics3(ids: dict[str, int], vocabulary: int) -> Made:
    config = hub.Idefics3Config(
        vision_config=CLIP_LIKE | {"image_size": 16, "patch_size": 4},
        text_config=hub.LlamaConfig(vocab_size=vocabulary, **TEXT_LAYERS),
        image_token_id=SPECIALS.index("<image>"), scale_factor=2,
    )  # fmt: skip
    images = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 16}
    )
    return hub.Idefics3ForConditionalGeneration(config), images, {"image_seq_len": 4}


def gemma3(ids: dict[str, int], vocabulary: int) -> Made:
    text = TEXT_LAYERS | {
        "sliding_window": 8, "query_pre_attn_scalar": 8,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
    }  # fmt: skip
    config = hub.Gemma3Config(
        vision_config=hub.SiglipVisionConfig(**CLIP_LIKE, vision_use_head=False),
        text_config=hub.Gemma3TextConfig(vocab_size=vocabulary, **text),
        image_token_id=ids["image_token_id"], boi_token_index=ids["vision_start_token_id"],
        eoi_token_index=ids["vision_end_token_id"], mm_tokens_per_image=4,
    )  # fmt: skip
    images = hub.Gemma3ImageProcessorPil(size={"height": 16, "width": 16})
    return hub.Gemma3ForConditionalGeneration(config), images, {"image_seq_length": 4}


def glm4v(ids: dict[str, int], vocabulary: int) -> Made:
    vision = {
        "depth": 2, "hidden_size": 16, "num_heads": 2, "intermediate_size": 24, "patch_size": 4,
        "out_hidden_size": WIDTH, "image_size": 16, "spatial_merge_size": 2,
    }  # fmt: skip
    rope = {
        "rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1],
        "partial_rotary_factor": 1.0,
    }  # fmt: skip
    text = TEXT_LAYERS | {"vocab_size": vocabulary, "rope_parameters": rope}
    named = {
        "image_token_id": ids["image_token_id"], "video_token_id": ids["video_token_id"],
        "image_start_token_id": ids["vision_start_token_id"],
        "image_end_token_id": ids["vision_end_token_id"],
    }  # fmt: skip
    config = hub.Glm4vConfig(text_config=text, vision_config=vision, **named)
    config.tie_word_embeddings = False
    images = hub.Glm4vImageProcessorPil(
        patch_size=4, size={"shortest_edge": 64, "longest_edge": 2 * 16 * 24}
    )
    return hub.Glm4vForConditionalGeneration(config), images, {}


def around(text: Any) -> Any:
    """A LLaVA-NeXT around some language model, in memory."""
    torch.manual_seed(0)
    config = hub.LlavaNextConfig(
        vision_config=hub.CLIPVisionConfig(**CLIP_LIKE), text_config=text, image_token_id=5
    )
    return hub.LlavaNextForConditionalGeneration(config)


FAMILIES: dict[str, Callable[[dict[str, int], int], Made]] = {
    "qwen2_vl": qwen2_vl, "qwen2_5_vl": qwen2_5_vl, "llava_onevision": llava_onevision,
    "llava_next": llava_next, "internvl": internvl, "idefics3": idefics3, "gemma3": gemma3,
    "glm4v": glm4v,
}  # fmt: skip
PROCESSORS = {
    "qwen2_vl": "Qwen2VLProcessor", "qwen2_5_vl": "Qwen2_5_VLProcessor",
    "llava_onevision": "LlavaOnevisionProcessor", "llava_next": "LlavaNextProcessor",
    "internvl": "InternVLProcessor", "idefics3": "Idefics3Processor", "gemma3": "Gemma3Processor",
    "glm4v": "Glm4vProcessor",
}  # fmt: skip


def save(kind: str, folder: Path, *, seed: int = 0) -> Path:
    """A folder with weights, tokenizer, image processor and processor, as the hub has them."""
    tokenizer = qwen_tokenizer()
    torch.manual_seed(seed)
    model, images, said = FAMILIES[kind](_ids(tokenizer), len(tokenizer))
    for name, weight in model.named_parameters():
        if weight.ndim > 1 and not any(part in name for part in ("language_model", "text_model")):
            torch.nn.init.normal_(weight, std=0.2)  # wide enough to tell pictures apart
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    images.save_pretrained(folder)
    said = {"processor_class": PROCESSORS[kind], **said}
    (folder / "processor_config.json").write_text(json.dumps(said))
    return folder
