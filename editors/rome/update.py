"""The rank-one update that puts v* at k* (Meng et al. 2022, eq. 2).

    u = C^-1 k* / |C^-1 k*|,    W' = W + (v* - W k) u^T / (u . k)

k* is the mean key over the context prefixes and k the key of the plain prompt, so the update is
exact for the plain prompt. A scalar on C has no effect. C^-1 k* is solved in float64: C of a real
model has thousands of rows and is close to singular.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from metrics.precision import in_float64
from models.deltas import LowRankDelta


class Factored(NamedTuple):
    """C as the product of triangular matrices, in float64.

    Attributes:
        lu: (d_in, d_in).
        pivots: (d_in,).
    """

    lu: Tensor
    pivots: Tensor


def factored(second_moment: Tensor) -> Factored:
    """C (d_in, d_in), ready to be solved for many keys."""
    return Factored(*torch.linalg.lu_factor(in_float64(second_moment)))


def unit_direction(k_star: Tensor, second_moment: Factored | None) -> Tensor:
    """The vector u of some keys, of unit length: (E, d_in) -> (E, d_in).

    Args:
        k_star: k*.
        second_moment: C, or None for the identity.
    """
    direction = in_float64(k_star)
    if second_moment is not None:
        direction = torch.linalg.lu_solve(*second_moment, direction.mT).mT
    u = direction / direction.norm(dim=-1, keepdim=True)
    return u.to(k_star.device, torch.promote_types(k_star.dtype, torch.float32))


def rank_one(u: Tensor, k: Tensor, output: Tensor, v_star: Tensor) -> LowRankDelta:
    """The update of E edits.

    Args:
        u: (E, d_in).
        k: of the plain prompt (E, d_in).
        output: W k, bias included (E, d_out).
        v_star: v* (E, d_out).
    """
    residual = (v_star - output) / (k * u).sum(-1, keepdim=True)
    return LowRankDelta(inputs=u[:, None], outputs=residual[:, None])
