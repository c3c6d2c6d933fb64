"""SERAC's arithmetic: how alike, in scope or not, whose answer (Mitchell et al. 2022, section 3).

Everything about the scope stays in log space: distances of 768-dimensional states are so large that
exp(-distance) is 0 in any float, and with it every gradient.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

Distance = Literal["square", "l2", "cos"]
EPSILON = torch.finfo(torch.float32).eps  # the published code's, in every precision


def log_similarity(
    queries: Tensor,
    entries: Tensor,
    *,
    distance: Distance = "square",
    bound: bool = False,
    heads: int = 1,
    scale: Tensor | float = 1.0,
) -> Tensor:
    """Log p(entry bears on query) = -scale * distance, at most 0.

    Args:
        queries: (Q, d).
        entries: (M, d).
        distance: squared (published), Euclidean, or 1 - cosine.
        bound: tanh on the embeddings first.
        heads: the embedding is cut into so many parts and the smallest distance counts.
        scale: factor of the distance.

    Returns:
        (Q, M).
    """
    if bound:
        queries, entries = queries.tanh(), entries.tanh()
    query = queries.unflatten(-1, (heads, -1))[:, None]  # (Q, 1, H, d / H)
    entry = entries.unflatten(-1, (heads, -1))[None]  # (1, M, H, d / H)
    if distance == "cos":
        apart = 1 - torch.cosine_similarity(query, entry, dim=-1)
    elif distance == "square":
        apart = (query - entry).square().sum(-1)
    else:
        apart = (query - entry).norm(dim=-1)
    return -(scale * apart.clamp(min=0)).amin(-1)


def retrieve(log_similarities: Tensor, allowed: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The entry that bears most on each query, and its log similarity.

    Args:
        log_similarities: (Q, M), M at least 1.
        allowed: (Q, M) bool, entries that a query may see; default all.

    Returns:
        (Q,) log similarity, -inf where nothing is allowed, and (Q,) entry.
    """
    if allowed is not None:
        log_similarities = log_similarities.masked_fill(~allowed, -torch.inf)
    best = log_similarities.max(-1)
    return best.values, best.indices


def log_one_minus(log_p: Tensor) -> Tensor:
    """log(1 - p) from log p, with 1 - p at least 1.19e-7.

    Published code puts that value where 1 - p is 0. Smaller ones than it hardly exist there, since
    p itself is kept; here they do, and without a bound a gradient of 1 / (1 - p) would come back.
    """
    return (-torch.expm1(log_p)).clamp(min=EPSILON).log()


def balanced_bce(
    log_p: Tensor,
    inside: Tensor,
    *,
    n_inside: Tensor | float | None = None,
    n_outside: Tensor | float | None = None,
) -> Tensor:
    """Cross-entropy of the scope, both classes counting alike.

        -mean(log p | in scope) - mean(log(1 - p) | out of scope)

    Args:
        log_p: (n,).
        inside: (n,) bool.
        n_inside: what the first sum is divided by; default the number of its terms.
        n_outside: the same for the second.
    """
    positives, negatives = -log_p[inside], -log_one_minus(log_p[~inside])
    loss = log_p.sum() * 0  # a class without members adds nothing
    if len(positives):
        loss = loss + positives.sum() / (len(positives) if n_inside is None else n_inside)
    if len(negatives):
        loss = loss + negatives.sum() / (len(negatives) if n_outside is None else n_outside)
    return loss


def fires(log_scope: Tensor, threshold: float) -> Tensor:
    """Whether a question counts as about its entry: (n,) -> (n,) bool; the threshold is strict."""
    return log_scope.exp() > threshold


def is_negligible(log_scope: Tensor) -> Tensor:
    """Where the counterfactual model has no say in `mix_soft`: (n,) -> (n,) bool.

    Less than half of what float32 can add to 1.19e-7 leaves p_base + 1.19e-7 what it is, but for a
    last digit where that sum is rounded from the middle of two numbers.
    """
    return log_scope < math.log(EPSILON * torch.finfo(torch.float32).eps / 4)


def mix_hard(base: Tensor, counterfactual: Tensor, log_scope: Tensor, threshold: float) -> Tensor:
    """The counterfactual model's logits where the scope is above the threshold.

    Args:
        base: (N, ..., V) logits.
        counterfactual: (N, ..., V) logits.
        log_scope: (N,).
        threshold: strict.
    """
    in_scope = fires(log_scope, threshold).reshape(-1, *[1] * (base.ndim - 1))
    return torch.where(in_scope, counterfactual, base)


def mix_soft(base: Tensor, counterfactual: Tensor, log_scope: Tensor) -> Tensor:
    """log((1 - s) p_base + s p_counterfactual + 1.19e-7): (N, ..., V)."""
    share = log_scope.exp().reshape(-1, *[1] * (base.ndim - 1))
    mixed = (1 - share) * base.softmax(-1) + share * counterfactual.softmax(-1)
    return (mixed + EPSILON).log()


def mix_negligible(base: Tensor) -> Tensor:
    """`mix_soft` where the scope is negligible: log(p_base + 1.19e-7), (N, ..., V)."""
    return (base.softmax(-1) + EPSILON).log()
