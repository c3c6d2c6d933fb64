"""The linear maps of a decoder layer by what they do there, readable without torch.

    q, k, v = W_query x, W_key x, W_value x                   x = norm(h)
    h <- h + W_attention_out attention(q, k, v)
    h <- h + W_mlp_out (act(W_mlp_gate y) * W_mlp_in y)       y = norm(h)
    h <- h + W_mlp_out act(W_mlp_in y)                        without a gate

A decoder has the maps that its architecture has: none of them a gate, or several fused into one
(`Decoder.sites`).
"""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["query", "key", "value", "attention_out", "mlp_gate", "mlp_in", "mlp_out"]

ROLES: tuple[Role, ...] = get_args(Role)  # in the order in which a layer goes through them
MLP_ROLES: tuple[Role, ...] = ("mlp_in", "mlp_out")  # that every decoder has
ATTENTION_ROLES: tuple[Role, ...] = ("query", "key", "value", "attention_out")
