"""What released multimodal LLMs have on the hub: configurations, settings of pictures and words.

`small` and `smaller` say what tests make smaller of them (`tests/hub_cases.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
CLIP = {
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}
FLAGS = dict.fromkeys(("do_convert_rgb", "do_normalize", "do_rescale", "do_resize"), True)


@dataclass(frozen=True)
class Released:
    """A repository of the hub.

    Attributes:
        config: config.json, as far as it says sizes and tokens.
        small: what of it is smaller here.
        special: the special tokens, in the order in which they are numbered here.
        named: key of config.json -> the special token whose number stands there.
        tokenizer: tokenizer_config.json.
        files: the other files of settings, as they are there.
        smaller: file -> what of it is smaller here.
        weights: pattern and replacement, from transformers' names to those of the repository.
    """

    repository: str
    config: Json
    small: Json
    special: tuple[str, ...]
    named: Mapping[str, str]
    tokenizer: Json
    files: Mapping[str, Json]
    smaller: Mapping[str, Json] = field(default_factory=dict)
    weights: tuple[tuple[str, str], ...] = ()


ROWS = tuple(f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))
SMOLVLM_CHAT = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
QWEN_CHAT = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}"
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}<|im_end|>\n{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}"
    "{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ONEVISION_CHAT = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}"
    "{# Render all images first #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{# Render all video then #}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'video') %}{{ '<video>' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ '\n' + content['text'] }}{% endfor %}{% else %}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'text') %}{% generation %}{{ '\n' + content['text'] }}"
    "{% endgeneration %}{% endfor %}{% endif %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _smolvlm(repository: str, text: Json, *, second: bool = False) -> Released:
    """SmolVLM 256M and 500M, whose class is Idefics3's, and the second version with its own."""
    family = "SmolVLM" if second else "Idefics3"
    kind = "smolvlm" if second else "idefics3"
    config = {
        "architectures": [f"{family}ForConditionalGeneration"], "image_token_id": 49190,
        "model_type": kind, "pad_token_id": 128002, "scale_factor": 4,
        "text_config": {
            "head_dim": 64, "max_position_embeddings": 8192, "model_type": "llama",
            "pad_token_id": 2, "pixel_shuffle_factor": 4, "rms_norm_eps": 1e-05,
            "rope_interleaved": False, "rope_theta": 100000, "torch_dtype": "bfloat16",
            "use_resampler": False, "vocab_size": 49280, **text,
        },
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_cache": False,
        "vision_config": {
            "hidden_size": 768, "image_size": 512, "intermediate_size": 3072,
            "max_image_size": {"longest_edge": 512},
            "model_type": "smolvlm_vision" if second else "idefics3_vision",
            "num_attention_heads": 12, "patch_size": 16, "size": {"longest_edge": 2048},
            "tie_word_embeddings": False, "use_base_siglip": False,
        },
        "vocab_size": 49280,
    }  # fmt: skip
    images = {
        **HALVES, **FLAGS, "do_image_splitting": True, "do_pad": True,
        "image_processor_type": f"{family}ImageProcessor", "max_image_size": {"longest_edge": 512},
        "processor_class": f"{family}Processor", "resample": 1, "size": {"longest_edge": 2048},
    }  # fmt: skip
    return Released(
        repository=repository,
        config=config,
        small={
            "scale_factor": 2,
            "text_config": {
                "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "head_dim": 8,
                "num_attention_heads": 3, "num_key_value_heads": 1,
            },
            "vision_config": {
                "hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2,
                "num_hidden_layers": 2, "patch_size": 4, "image_size": 16,
                "max_image_size": {"longest_edge": 16}, "size": {"longest_edge": 64},
            },
        },
        special=(
            "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>", *ROWS,
            "<fake_token_around_image>", "<image>", "<end_of_utterance>",
        ),
        named={"image_token_id": "<image>", "pad_token_id": "<|im_end|>"},
        tokenizer={
            "additional_special_tokens": [
                "<fake_token_around_image>", "<image>", "<end_of_utterance>"
            ],
            "bos_token": "<|im_start|>", "clean_up_tokenization_spaces": False,
            "eos_token": "<end_of_utterance>", "pad_token": "<|im_end|>",
            "model_max_length": 8192, "processor_class": f"{family}Processor",
            "tokenizer_class": "GPT2Tokenizer", "truncation_side": "left",
            "unk_token": "<|endoftext|>", "vocab_size": 49152,
        },
        files={
            "preprocessor_config.json": images,
            "processor_config.json": {
                "image_seq_len": 64, "processor_class": f"{family}Processor"
            },
            "chat_template.json": {"chat_template": SMOLVLM_CHAT},
            "generation_config.json": {
                "_from_model_config": True, "bos_token_id": 0, "eos_token_id": 49279,
                "pad_token_id": 2,
            },
        },
        smaller={
            "preprocessor_config.json": {
                "max_image_size": {"longest_edge": 16}, "size": {"longest_edge": 64}
            },
            "processor_config.json": {"image_seq_len": 4},
        },
    )  # fmt: skip


def _qwen(
    repository: str, kind: str, name: str, config: Json, vision: Json, small: Json
) -> Released:
    """Qwen2-VL and Qwen2.5-VL: no processor_config.json, and all sizes of the text at the top."""
    return Released(
        repository=repository,
        config={
            "architectures": [f"{name}ForConditionalGeneration"], "attention_dropout": 0.0,
            "bos_token_id": 151643, "eos_token_id": 151645, "vision_start_token_id": 151652,
            "vision_end_token_id": 151653, "vision_token_id": 151654, "image_token_id": 151655,
            "video_token_id": 151656, "hidden_act": "silu", "initializer_range": 0.02,
            "model_type": kind, "num_key_value_heads": 2, "rms_norm_eps": 1e-06,
            "rope_theta": 1000000.0, "sliding_window": 32768, "tie_word_embeddings": True,
            "torch_dtype": "bfloat16", "use_cache": True, "use_sliding_window": False,
            "vision_config": vision, "vocab_size": 151936,
            "rope_scaling": {"type": "mrope", "mrope_section": [16, 24, 24]}, **config,
        },
        small={
            "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
            "num_attention_heads": 2, "num_key_value_heads": 1,
            "rope_scaling": {"type": "mrope", "mrope_section": [2, 1, 1]},
            "vision_config": {"num_heads": 2, "patch_size": 4, "depth": 2, **small},
        },
        special=(
            "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>",
            "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
        ),
        named={
            "bos_token_id": "<|endoftext|>", "eos_token_id": "<|im_end|>",
            "vision_start_token_id": "<|vision_start|>", "vision_end_token_id": "<|vision_end|>",
            "vision_token_id": "<|vision_pad|>", "image_token_id": "<|image_pad|>",
            "video_token_id": "<|video_pad|>",
        },
        tokenizer={
            "add_prefix_space": False, "bos_token": None, "chat_template": QWEN_CHAT,
            "clean_up_tokenization_spaces": False, "eos_token": "<|im_end|>", "errors": "replace",
            "padding_side": "left", "model_max_length": 32768, "pad_token": "<|endoftext|>",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
        },
        files={
            "preprocessor_config.json": {
                **CLIP, "min_pixels": 3136, "max_pixels": 12845056, "patch_size": 14,
                "temporal_patch_size": 2, "merge_size": 2, "processor_class": f"{name}Processor",
                "image_processor_type": "Qwen2VLImageProcessor",
            },
            "chat_template.json": {"chat_template": QWEN_CHAT},
            "generation_config.json": {
                "bos_token_id": 151643, "pad_token_id": 151643, "do_sample": True,
                "eos_token_id": [151645, 151643], "repetition_penalty": 1.05,
            },
        },
        smaller={
            "preprocessor_config.json": {"min_pixels": 64, "max_pixels": 16 * 24, "patch_size": 4}
        },
        weights=((r"^model\.language_model\.", "model."), (r"^model\.visual\.", "visual.")),
    )  # fmt: skip


def _qwen2_vl() -> Released:
    return _qwen(
        "Qwen/Qwen2-VL-2B-Instruct", "qwen2_vl", "Qwen2VL",
        {
            "hidden_size": 1536, "intermediate_size": 8960, "max_position_embeddings": 32768,
            "max_window_layers": 28, "num_attention_heads": 12, "num_hidden_layers": 28,
        },
        {
            "depth": 32, "embed_dim": 1280, "mlp_ratio": 4, "num_heads": 16, "in_chans": 3,
            "hidden_size": 1536, "patch_size": 14, "spatial_merge_size": 2,
            "spatial_patch_size": 14, "temporal_patch_size": 2,
        },
        {"embed_dim": 16, "mlp_ratio": 2, "hidden_size": 16},
    )  # fmt: skip


def _qwen2_5_vl() -> Released:
    return _qwen(
        "Qwen/Qwen2.5-VL-3B-Instruct", "qwen2_5_vl", "Qwen2_5_VL",
        {
            "hidden_size": 2048, "intermediate_size": 11008, "max_position_embeddings": 128000,
            "max_window_layers": 70, "num_attention_heads": 16, "num_hidden_layers": 36,
        },
        {
            "depth": 32, "hidden_act": "silu", "hidden_size": 1280, "intermediate_size": 3420,
            "num_heads": 16, "in_chans": 3, "out_hidden_size": 2048, "patch_size": 14,
            "spatial_merge_size": 2, "spatial_patch_size": 14, "window_size": 112,
            "fullatt_block_indexes": [7, 15, 23, 31], "tokens_per_second": 2,
            "temporal_patch_size": 2,
        },
        {
            "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 16, "window_size": 16,
            "fullatt_block_indexes": [1],
        },
    )  # fmt: skip


def _onevision() -> Released:
    sides = [384 * n for n in range(1, 7)]
    small = [[16, 16], [16, 32], [32, 16]]
    points = [[height, width] for height in sides for width in sides]
    return Released(
        repository="llava-hf/llava-onevision-qwen2-0.5b-ov-hf",
        config={
            "architectures": ["LlavaOnevisionForConditionalGeneration"], "ignore_index": -100,
            "image_grid_pinpoints": points, "image_token_index": 151646,
            "model_type": "llava_onevision", "projector_hidden_act": "gelu",
            "text_config": {
                "architectures": ["Qwen2ForCausalLM"], "bos_token_id": 151643,
                "eos_token_id": 151645, "hidden_size": 896, "intermediate_size": 4864,
                "max_window_layers": 24, "model_type": "qwen2", "num_attention_heads": 14,
                "num_hidden_layers": 24, "num_key_value_heads": 2, "rope_theta": 1000000.0,
                "tie_word_embeddings": True, "torch_dtype": "bfloat16", "vocab_size": 152000,
            },
            "tie_word_embeddings": False, "torch_dtype": "float16",
            "use_image_newline_parameter": True, "video_token_index": 151647,
            "vision_aspect_ratio": "anyres_max_9",
            "vision_config": {
                "hidden_size": 1152, "image_size": 384, "intermediate_size": 4304,
                "model_type": "siglip_vision_model", "num_attention_heads": 16,
                "num_hidden_layers": 26, "patch_size": 14, "vision_use_head": False,
            },
            "vision_feature_layer": -1, "vision_feature_select_strategy": "full",
        },
        small={
            "image_grid_pinpoints": small,
            "text_config": {
                "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
                "num_attention_heads": 2, "num_key_value_heads": 1,
            },
            "vision_config": {
                "hidden_size": 16, "image_size": 16, "intermediate_size": 24,
                "num_attention_heads": 2, "num_hidden_layers": 2, "patch_size": 8,
            },
        },
        special=("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"),
        named={"image_token_index": "<image>", "video_token_index": "<video>"},
        tokenizer={
            "add_prefix_space": False, "bos_token": None, "clean_up_tokenization_spaces": False,
            "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
            "eos_token": "<|im_end|>", "errors": "replace", "extra_special_tokens": {
                "image_token": "<image>", "video_token": "<video>"
            },
            "image_token": "<image>", "video_token": "<video>", "model_max_length": 32768,
            "pad_token": "<|endoftext|>", "processor_class": "LlavaOnevisionProcessor",
            "split_special_tokens": False, "tokenizer_class": "Qwen2Tokenizer", "unk_token": None,
        },
        files={
            "preprocessor_config.json": {
                **HALVES, **FLAGS, "do_pad": True, "image_grid_pinpoints": points,
                "image_processor_type": "LlavaOnevisionImageProcessor", "resample": 3,
                "processor_class": "LlavaOnevisionProcessor",
                "size": {"height": 384, "width": 384},
            },
            "video_preprocessor_config.json": {
                **HALVES, **FLAGS, "image_processor_type": "LlavaOnevisionVideoProcessor",
                "processor_class": "LlavaOnevisionProcessor", "resample": 3,
                "size": {"height": 384, "width": 384},
            },
            "processor_config.json": {
                "num_image_tokens": 729, "processor_class": "LlavaOnevisionProcessor",
                "vision_feature_select_strategy": "full", "image_token": "<image>",
                "video_token": "<video>",
            },
            "chat_template.json": {"chat_template": ONEVISION_CHAT},
            "generation_config.json": {
                "_from_model_config": True, "bos_token_id": 151643, "eos_token_id": 151645
            },
        },
        smaller={
            "preprocessor_config.json": {
                "size": {"height": 16, "width": 16}, "image_grid_pinpoints": small
            },
            "processor_config.json": {"num_image_tokens": 4},
        },
        weights=(
            (r"^lm_head", "language_model.lm_head"),
            (r"^model\.language_model\.", "language_model.model."),
            (r"^model\.vision_tower\.", "vision_tower.vision_model."),
            (r"^model\.", ""),
        ),
    )  # fmt: skip


RELEASED: dict[str, Released] = {
    "smolvlm_256m": _smolvlm(
        "HuggingFaceTB/SmolVLM-256M-Instruct",
        {
            "hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9,
            "num_hidden_layers": 30, "num_key_value_heads": 3,
        },
    ),
    "smolvlm_500m": _smolvlm(
        "HuggingFaceTB/SmolVLM-500M-Instruct",
        {
            "hidden_size": 960, "intermediate_size": 2560, "num_attention_heads": 15,
            "num_hidden_layers": 32, "num_key_value_heads": 5,
        },
    ),
    "smolvlm2_500m": _smolvlm(
        "HuggingFaceTB/SmolVLM2-500M-Video-Instruct",
        {
            "hidden_size": 960, "intermediate_size": 2560, "num_attention_heads": 15,
            "num_hidden_layers": 32, "num_key_value_heads": 5,
        },
        second=True,
    ),
    "qwen2_vl_2b": _qwen2_vl(),
    "qwen2_5_vl_3b": _qwen2_5_vl(),
    "llava_onevision_0.5b": _onevision(),
}  # fmt: skip
