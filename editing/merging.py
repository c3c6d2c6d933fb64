"""A delta written into a matrix: W' = round(W + D), and what the rounding leaves of it.

The engine adds D to what a map puts out, in float32, so an update far below half an ulp of a
half-precision weight still counts there. Merged it is rounded to the number type of the weights:

    lost   = |{i : D_i != 0, W'_i = W_i}| / |{i : D_i != 0}|       under half an ulp of its weight
    error  = ||W' - W - D|| / ||D||                                Frobenius norms
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from errors import ModelError
from models.deltas import Delta, linear_weight

_ROWS = 1024  # of a matrix that are looked at together, in float64


@dataclass(frozen=True)
class MatrixChange:
    """What merging did to one matrix.

    Attributes:
        name: of the linear map in the model.
        dtype: of the weight.
        n_weights: numbers in its matrix.
        n_changed: how many of them are other ones now.
        largest: max |W' - W|.
        mean: mean |W' - W| over all weights.
        lost: share of the weights with a delta that stayed as they were; 0 to 1.
        error: relative norm of what rounding did to the delta; 0 for an exact sum.
    """

    name: str
    dtype: str
    n_weights: int
    n_changed: int
    largest: float
    mean: float
    lost: float
    error: float


@torch.no_grad()
def merge_delta(name: str, module: nn.Module, delta: Delta) -> MatrixChange:
    """Adds a delta of one edit to a linear map's weight, in place.

    Args:
        name: of the map, for the report.
        module: Linear, or GPT-2's Conv1D, which keeps its weight transposed.
        delta: E = 1.

    Raises:
        ModelError: a sum is beyond the number type of the weights; the matrix is as it was.
    """
    weight = linear_weight(module)  # (d_out, d_in), a view
    dense = delta.dense()[0].to(weight.device, torch.float32)
    merged = (weight.float() + dense).to(weight.dtype)
    if not bool(merged.isfinite().all()):
        raise ModelError(
            f"{name}: the edit moves a weight beyond the largest {_named(weight.dtype)}. Merge it "
            "into a model stored in bfloat16 or float32, or use it by edit.applied()."
        )
    change = _compare(name, weight, merged, dense)
    weight.copy_(merged)
    return change


def _compare(name: str, before: Tensor, after: Tensor, delta: Tensor) -> MatrixChange:
    n_changed = n_moved = n_lost = 0
    largest = total = wrong = norm = 0.0
    for old, new, d in zip(
        before.split(_ROWS), after.split(_ROWS), delta.split(_ROWS), strict=True
    ):
        moved = new.double() - old.double()
        has_delta = d != 0
        n_changed += int((moved != 0).sum())
        n_moved += int(has_delta.sum())
        n_lost += int((has_delta & (moved == 0)).sum())
        largest = max(largest, float(moved.abs().max()))
        total += float(moved.abs().sum())
        wrong += float((moved - d.double()).square().sum())
        norm += float(d.double().square().sum())
    return MatrixChange(
        name=name,
        dtype=_named(before.dtype),
        n_weights=before.numel(),
        n_changed=n_changed,
        largest=largest,
        mean=total / before.numel(),
        lost=n_lost / max(1, n_moved),
        error=(wrong / norm) ** 0.5 if norm else 0.0,
    )


def _named(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
