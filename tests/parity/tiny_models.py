"""The tiny GPT-2 or Llama that vectors were made with, from its weights alone."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

HEADS = 2  # all of them have two heads, and say so nowhere in their weights


def base_model(weights: dict[str, Tensor]) -> torch.nn.Module:
    """The model with these weights, its sizes read from them; eager attention, no dropout."""
    gpt2 = "transformer.wte.weight" in weights
    model = _gpt2(weights) if gpt2 else _llama(weights)
    model = model.to(next(iter(weights.values())).dtype)
    loaded = model.load_state_dict(weights, strict=False)  # rotary and tied buffers aside
    parameters = dict(model.named_parameters())
    assert not [name for name in loaded.missing_keys if name in parameters]
    assert not [name for name in loaded.unexpected_keys if name.endswith(("weight", "bias"))]
    return model.eval()


def _gpt2(weights: dict[str, Tensor]) -> GPT2LMHeadModel:
    vocabulary, width = weights["transformer.wte.weight"].shape
    config = GPT2Config(
        vocab_size=vocabulary, n_embd=width, n_layer=_layers(weights, "transformer.h."),
        n_head=HEADS, n_positions=len(weights["transformer.wpe.weight"]),
        n_inner=weights["transformer.h.0.mlp.c_fc.weight"].shape[1],
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, attn_implementation="eager",
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return GPT2LMHeadModel(config)


def _llama(weights: dict[str, Tensor]) -> LlamaForCausalLM:
    vocabulary, width = weights["model.embed_tokens.weight"].shape
    keys = len(weights["model.layers.0.self_attn.k_proj.weight"])
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=width,
        intermediate_size=len(weights["model.layers.0.mlp.up_proj.weight"]),
        num_hidden_layers=_layers(weights, "model.layers."), num_attention_heads=HEADS,
        num_key_value_heads=keys // (width // HEADS), max_position_embeddings=64,
        attn_implementation="eager", bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def _layers(weights: dict[str, Tensor], prefix: str) -> int:
    numbers = {int(n.removeprefix(prefix).split(".")[0]) for n in weights if n.startswith(prefix)}
    return 1 + max(numbers)
