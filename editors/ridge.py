"""The update of a linear map by least squares, as factor pairs (MALMEN, Tan et al., ICLR 2024).

Of T tokens with keys K (T, d_in), each of which asks the map for a change D (T, d_out),

    dW^T = (K^T K + lambda I)^-1 K^T D = K^T (K K^T + lambda I)^-1 D         (d_in, d_out)

moves the map towards what the tokens ask for and, by the ridge lambda, no further than it must. The
second form is a factor pair per token, inputs (K K^T + lambda I)^-1 K and outputs D: the matrix dW
is never built. Of the two Gram matrices the smaller one is solved with, in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from metrics.precision import in_float64, single
from models.deltas import LowRankDelta


def ridge_update(keys: Tensor, asked: Tensor, ridge: Tensor | float) -> LowRankDelta:
    """The least-squares update of E edits.

    Args:
        keys: K (E, T, d_in), zero rows where an edit has fewer than T tokens.
        asked: D (E, T, d_out), the change of the map's output that each token asks for.
        ridge: lambda > 0: a number, or one of each edit (E,).

    Returns:
        Factor pairs of rank T, in float32 or better; gradients pass to `asked` and `ridge`.
    """
    return LowRankDelta(dual_keys(keys, ridge), asked.to(single(asked.dtype)))


def dual_keys(keys: Tensor, ridge: Tensor | float) -> Tensor:
    """(K K^T + lambda I)^-1 K = K (K^T K + lambda I)^-1: (E, T, d_in) -> (E, T, d_in)."""
    k = in_float64(keys)
    on_diagonal = torch.as_tensor(ridge, dtype=k.dtype, device=k.device).reshape(-1, 1, 1)
    tokens_first = k.shape[1] <= k.shape[2]
    gram = k @ k.mT if tokens_first else k.mT @ k
    identity = torch.eye(gram.shape[-1], dtype=k.dtype, device=k.device)
    factor = torch.linalg.cholesky(gram + on_diagonal * identity)
    dual = torch.cholesky_solve(k if tokens_first else k.mT, factor)
    return (dual if tokens_first else dual.mT).to(keys.device, single(keys.dtype))
