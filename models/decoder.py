"""What a decoder-only LM consists of, by role and not by the names of one architecture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from models.deltas import Role


@dataclass(frozen=True)
class Decoder:
    """The parts of a decoder-only LM, by role.

    Attributes:
        body: called with `inputs_embeds`, `attention_mask`, `use_cache`; runs all layers.
        layers: its decoder layers.
        norm: final norm (identity where the model has none).
        head: hidden state -> logits.
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
