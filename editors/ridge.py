"""The update of a linear map by least squares, as factor pairs (MALMEN, Tan et al., ICLR 2024).

Of T tokens with keys K (T, d_in), each of which asks the map for a change D (T, d_out),

    dW^T = (K^T K + lambda I)^-1 K^T D = K^T (K K^T + lambda I)^-1 D         (d_in, d_out)

moves the map towards what the tokens ask for and, by the ridge lambda, no further than it must. The
second form is a factor pair per token, inputs (K K^T + lambda I)^-1 K and outputs D: the matrix dW
is never built. Of the two Gram matrices the smaller one is solved with, in float64.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from errors import ModelError
from metrics.precision import in_float64, single
from models.budget import MemoryBudget
from models.deltas import LowRankDelta
from models.device_memory import GB


def ridge_update(keys: Tensor, changes: Tensor, ridge: Tensor | float) -> LowRankDelta:
    """The least-squares update of E edits.

    Args:
        keys: K (E, T, d_in), zero rows where an edit has fewer than T tokens.
        changes: D (E, T, d_out), the change of the map's output that each token asks for.
        ridge: lambda > 0: a number, or one of each edit (E,).

    Returns:
        Factor pairs of rank T, in float32 or better; gradients pass to `changes` and `ridge`.

    Raises:
        ModelError: the ridge is too small beside the keys.
    """
    return LowRankDelta(dual_keys(keys, ridge), changes.to(single(changes.dtype)))


def dual_keys(keys: Tensor, ridge: Tensor | float) -> Tensor:
    """(K K^T + lambda I)^-1 K = K (K^T K + lambda I)^-1: (E, T, d_in) -> (E, T, d_in).

    Gradients pass to the ridge.

    Raises:
        ModelError: the ridge is too small beside the keys.
    """
    k = in_float64(keys)
    ridges = torch.as_tensor(ridge).to(k).reshape(-1).expand(len(k))
    dual: Tensor = _DualKeys.apply(k, ridges)
    return dual.to(keys.device, single(keys.dtype))


class _DualKeys(torch.autograd.Function):
    """The solve, and of its gradient what is known of it already.

        A = (K K^T + lambda I)^-1 K,    dA/dlambda = -(K K^T + lambda I)^-1 A

    so that backward is one more solve with the same factor. With dL/dW of the update D^T A this is
    MALMEN's dL/dlambda = -<(K^T K + lambda I)^-1 dL/dW^T, dW^T>.
    """

    @staticmethod
    def forward(ctx: Any, keys: Tensor, ridge: Tensor) -> Tensor:
        """(E, T, d_in), (E,) -> (E, T, d_in), in float64."""
        tokens_first = keys.shape[1] <= keys.shape[2]
        gram = keys @ keys.mT if tokens_first else keys.mT @ keys
        gram.diagonal(dim1=-2, dim2=-1).add_(ridge[:, None])
        factor, failed = torch.linalg.cholesky_ex(gram)
        if bool(failed.any()):
            raise ModelError(_singular(keys, ridge))
        dual = _solve(factor, keys, tokens_first=tokens_first)
        ctx.save_for_backward(factor, dual)
        ctx.tokens_first = tokens_first
        return dual

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        """Of the ridge alone: keys are what a frozen model says."""
        factor, dual = ctx.saved_tensors
        moved = _solve(factor, dual, tokens_first=ctx.tokens_first)
        return None, -(gradient * moved).sum((1, 2))


def _singular(keys: Tensor, ridge: Tensor) -> str:
    largest = float(keys.square().sum(-1).max())
    return (
        f"the least squares of an update cannot be solved in float64: a ridge of "
        f"{float(ridge.min()):.3g} is lost beside keys k with |k|^2 up to {largest:.3g}. Give a "
        "larger editor.ridge; one that was learned comes from a training run that broke down."
    )


def _solve(factor: Tensor, keys: Tensor, *, tokens_first: bool) -> Tensor:
    """Keys (E, T, d) by a Cholesky factor over tokens (E, T, T) or over inputs (E, d, d)."""
    if tokens_first:
        return torch.cholesky_solve(keys, factor)
    return torch.cholesky_solve(keys.mT, factor).mT


def solve_bytes(n_tokens: int, d_in: int, beside: int = 0) -> int:
    """Bytes that one update takes at its peak: Gram matrix and factor, keys and solution twice.

    Args:
        n_tokens: T.
        d_in: of the linear map.
        beside: numbers of each token that are held besides, in float64.
    """
    smaller = min(n_tokens, d_in)
    return (2 * smaller**2 + n_tokens * (4 * d_in + beside)) * torch.float64.itemsize


def check_solve(
    budget: MemoryBudget,
    n_tokens: int,
    d_in: int,
    n_edits: int,
    *,
    beside: int = 0,
    earlier: int = 0,
) -> None:
    """Refuses an update that the device has no room for.

    Args:
        budget: of the base model.
        n_tokens: T.
        d_in: of the linear map.
        n_edits: edits whose tokens these are.
        beside: as of `solve_bytes`.
        earlier: tokens of earlier updates that are solved for besides.

    Raises:
        ModelError: says how many tokens and about how many edits there is room for.
    """
    needed = solve_bytes(earlier + n_tokens, d_in, beside)
    if budget.free is None or needed <= budget.free:
        return
    tokens = range(earlier + n_tokens)
    room = bisect_right(tokens, budget.free, key=lambda t: solve_bytes(t, d_in, beside)) - 1
    fit = max(0, room - earlier)
    kept = f" beside {earlier} of earlier updates" if earlier else ""
    remedy = "Make fewer edits in one update, in several turns."
    if earlier and not fit:
        remedy = "Make fewer edits in all: those of earlier updates have taken it."
    raise ModelError(
        f"One update of {n_edits} edits with {n_tokens} keys{kept} takes {needed / GB:.1f} GB "
        f"to solve for in float64, and {budget.device} has {budget.free / GB:.1f} GB free beside "
        f"the base model: there is room for {fit} keys, about {fit * n_edits // n_tokens} edits. "
        f"{remedy}"
    )
