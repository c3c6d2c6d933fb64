"""The rank-one update that puts v* at k* (Meng et al. 2022, eq. 2).

    u = C^-1 k* / |C^-1 k*|,    W' = W + (v* - W k) u^T / (u . k)

k* is the mean key over the context prefixes and k the key of the plain prompt, so the update is
exact for the plain prompt. A scalar on C has no effect. C^-1 k* is solved in float64: C of a real
model has thousands of rows and is close to singular.
"""

from __future__ import annotations

import torch
from torch import Tensor

from models.deltas import LowRankDelta


def left_vector(key: Tensor, second_moment: Tensor | None) -> Tensor:
    """U of some keys, of unit length: (E, d_in) -> (E, d_in).

    Args:
        key: k*.
        second_moment: C (d_in, d_in), or None for the identity.
    """
    direction = key.double()
    if second_moment is not None:
        direction = torch.linalg.solve(second_moment.double(), direction.mT).mT
    unit = direction / direction.norm(dim=-1, keepdim=True)
    return unit.to(torch.promote_types(key.dtype, torch.float32))


def rank_one(left: Tensor, key: Tensor, value: Tensor, wanted: Tensor) -> LowRankDelta:
    """The update of E edits.

    Args:
        left: u (E, d_in).
        key: k of the plain prompt (E, d_in).
        value: W k, bias included (E, d_out).
        wanted: v* (E, d_out).
    """
    right = (wanted - value) / (key * left).sum(-1, keepdim=True)
    return LowRankDelta(inputs=left[:, None], outputs=right[:, None])
