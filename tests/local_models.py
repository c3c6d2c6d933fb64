"""Tiny random language models as folders and as GGUF, and random parts to build around them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import (
    AutoModel,
    CLIPVisionConfig,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from models.parts_folder import Adapter, Parts, Tower
from tests.tokenizers_small import TEXT

WIDTH, INNER, LAYERS, HEADS, KV_HEADS, POSITIONS = 32, 48, 2, 4, 2, 128
SIDE, PATCH = 16, 8
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
COMMON: dict[str, Any] = {
    "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
    "max_position_embeddings": POSITIONS, "eos_token_id": 2, "pad_token_id": 2,
}  # fmt: skip
LLAMA_LIKE = {
    "intermediate_size": INNER, "num_key_value_heads": KV_HEADS, "tie_word_embeddings": True,
    "initializer_range": 0.2,
}  # fmt: skip
MAPS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def chat_tokenizer(begin: str | None = "<|im_start|>") -> PreTrainedTokenizerFast:
    """Byte-level BPE whose first token is a mark of a chat, as SmolLM2's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=list(SPECIALS), show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(TEXT, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token="<|im_end|>"
    )


def language_model(kind: str, *, vocabulary: int | None = None) -> PreTrainedModel:
    """A random one of `models.language_model.ARCHITECTURES`."""
    torch.manual_seed(0)
    common = {**COMMON, "vocab_size": vocabulary or len(chat_tokenizer()), "bos_token_id": 1}
    if kind == "llama":
        return LlamaForCausalLM(LlamaConfig(**common, **LLAMA_LIKE))
    if kind == "qwen2":
        return Qwen2ForCausalLM(Qwen2Config(**common, **LLAMA_LIKE))
    if kind == "gemma3_text":
        own = {"head_dim": 8, "sliding_window": 8, "query_pre_attn_scalar": 8}
        layers = {"layer_types": ["sliding_attention", "full_attention"]}
        return Gemma3ForCausalLM(Gemma3TextConfig(**common, **LLAMA_LIKE, **own, **layers))
    return OPTForCausalLM(
        OPTConfig(**common, ffn_dim=INNER, word_embed_proj_dim=WIDTH, init_std=0.2)
    )


def save_language(kind: str, folder: Path) -> PreTrainedModel:
    """Saves one as released ones are; its rows in memory are what the folder says."""
    model = language_model(kind).eval()
    round_to_half(model)  # as a folder that is built around it stores them
    model.save_pretrained(folder)
    chat_tokenizer().save_pretrained(folder)
    return model


@torch.no_grad()
def round_to_half(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.copy_(parameter.half().float())


def write_gguf(file: Path, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast) -> None:
    """A Llama as llama.cpp's converter writes it, in float32."""
    config = model.config
    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_words(writer, tokenizer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
        turned = next((_turned(weight, n) for part, n in heads.items() if part in name), weight)
        stem, suffix = name.rsplit(".", 1)
        writer.add_tensor(f"{names.get_name(stem)}.{suffix}", turned.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_words(writer: gguf.GGUFWriter, tokenizer: PreTrainedTokenizerFast) -> None:
    words = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kinds = gguf.TokenType
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    writer.add_token_types([kinds.CONTROL if w in SPECIALS else kinds.NORMAL for w in words])
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    for add, token in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
    ):
        if token is not None:
            add(token)


def _turned(weight: Tensor, heads: int) -> Tensor:
    """Rows in the order of llama.cpp's rotary positions."""
    split = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return split.swapaxes(1, 2).reshape(weight.shape).contiguous()


def vision_config(**changes: Any) -> CLIPVisionConfig:
    sizes = {
        "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": SIDE, "patch_size": PATCH, "projection_dim": 16,
    }  # fmt: skip
    return CLIPVisionConfig(**sizes | changes)


def random_tower(config: PretrainedConfig | None = None, *, seed: int = 1) -> Tower:
    """A tower, weights and all, whose values are half precision's."""
    torch.manual_seed(seed)
    config = config or vision_config()
    images = CLIPImageProcessorPil(
        size={"height": config.image_size, "width": config.image_size}, do_center_crop=False
    )
    state = AutoModel.from_config(config).state_dict()
    return Tower(config.to_dict(), _rounded(state), images.to_dict())


def random_projector(width: int = WIDTH, *, seed: int = 2, tower: int = 16) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    parts = nn.ModuleDict(
        {"linear_1": nn.Linear(tower, width), "linear_2": nn.Linear(width, width)}
    )
    return _rounded(parts.state_dict())


def random_adapter(model: PreTrainedModel, rank: int = 4, alpha: float = 8.0) -> Adapter:
    torch.manual_seed(3)
    tensors = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear) and name.rsplit(".", 1)[-1] in MAPS:
            place = f"base_model.model.{name}"
            tensors[f"{place}.lora_A.weight"] = 0.1 * torch.randn(rank, module.in_features)
            tensors[f"{place}.lora_B.weight"] = 0.1 * torch.randn(module.out_features, rank)
    return Adapter(_rounded(tensors), alpha)


def random_parts(model: PreTrainedModel | None = None, **manifest: Any) -> Parts:
    """Parts of two alignments, with an adapter where the model is given."""
    projectors = {"naming": random_projector(), "embedding": random_projector(seed=4)}
    adapter = None if model is None else random_adapter(model)
    return Parts(random_tower(), projectors, adapter, manifest=manifest)


def _rounded(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.half().float() for name, value in state.items()}
