"""What a decoder-only LM consists of, by role and not by the names of one architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from errors import ModelError
from models.sites import Role


@dataclass(frozen=True)
class Decoder:
    """The parts of a decoder-only LM, by role.

    Attributes:
        body: called with `inputs_embeds`, `attention_mask`, `use_cache`; runs all layers.
        layers: its decoder layers.
        norm: final norm (identity where the model has none).
        head: hidden state -> logits; a linear map is multiplied out in float32 (`models.head`).
        mlp_norm: name inside a layer of the norm that reads the residual stream before the MLP.
        mlp: (layer, (N, d) residual stream) -> (N, d) MLP output to add to it.
        sites: role -> name inside a layer of the linear map.
    """

    body: nn.Module
    layers: nn.ModuleList
    norm: nn.Module
    head: nn.Module
    mlp_norm: str
    mlp: Callable[[Any, Tensor], Tensor]  # Any: attributes of a Module are untyped
    sites: Mapping[Role, str]


def llama_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of a Llama-type LM: `up_proj` and `down_proj` are the MLP's two matrices."""
    sites: Mapping[Role, str] = {
        "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
        "attention_out": "self_attn.o_proj",
        "mlp_gate": "mlp.gate_proj", "mlp_in": "mlp.up_proj", "mlp_out": "mlp.down_proj",
    }  # fmt: skip
    norm = "post_attention_layernorm"
    return Decoder(body, body.layers, body.norm, head, norm, mlp_after(norm), sites)


def opt_decoder(body: Any, head: nn.Module) -> Decoder:
    """The roles of OPT with pre-layer-norm (every size but 350m).

    Its layers flatten to (R * T, d) before `fc1`; whoever hooks a site takes both shapes.

    Raises:
        ModelError: the model normalises after the MLP.
    """
    if not body.layers[0].do_layer_norm_before:
        raise ModelError(
            "this OPT model normalises after attention and MLP (do_layer_norm_before=false, as "
            "OPT-350m does); edits are written for the pre-layer-norm sizes. Use another OPT."
        )

    def mlp(block: Any, hidden: Tensor) -> Tensor:
        return block.fc2(block.activation_fn(block.fc1(block.final_layer_norm(hidden))))

    sites: Mapping[Role, str] = {
        "query": "self_attn.q_proj", "key": "self_attn.k_proj", "value": "self_attn.v_proj",
        "attention_out": "self_attn.out_proj", "mlp_in": "fc1", "mlp_out": "fc2",
    }  # fmt: skip
    norm = "final_layer_norm"
    return Decoder(body, body.layers, body.final_layer_norm, head, norm, mlp, sites)


def mlp_after(norm: str) -> Callable[[Any, Tensor], Tensor]:
    """mlp(norm(x)), as most decoder layers have it."""
    return lambda block, hidden: block.mlp(getattr(block, norm)(hidden))
