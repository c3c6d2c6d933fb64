"""How well a scope classifier tells questions about an edit from all others."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import Metric

from metrics.precision import widest_dtype


class ScopeQuality(Metric):
    """Precision, recall and margin of scope probabilities.

        precision  share of the questions it fires for that are about the edit
        recall     share of the questions about the edit that it fires for
        margin     mean probability of those about the edit, minus that of all others

    A router that never fires has recall 0 and no precision (NaN); fractions, higher is better.
    """

    full_state_update = False
    higher_is_better = True
    hits: Tensor
    false: Tensor
    n_inside: Tensor
    n_outside: Tensor
    inside: Tensor
    outside: Tensor

    def __init__(self, threshold: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        for name in ("hits", "false", "n_inside", "n_outside", "inside", "outside"):
            start = torch.zeros((), dtype=torch.float64)
            self.add_state(name, default=start, dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, inside: Tensor) -> None:
        """Adds questions.

        Args:
            probabilities: (n,) that the question is about the edit.
            inside: (n,) bool, whether it is.
        """
        probabilities = probabilities.detach().to(self.inside.dtype)
        fires = probabilities > self.threshold
        self.hits += (fires & inside).sum()
        self.false += (fires & ~inside).sum()
        self.n_inside += inside.sum()
        self.n_outside += (~inside).sum()
        self.inside += probabilities[inside].sum()
        self.outside += probabilities[~inside].sum()

    def compute(self) -> dict[str, Tensor]:
        """`precision`, `recall`, `margin`, `inside` and `outside` (mean probabilities)."""
        inside, outside = self.inside / self.n_inside, self.outside / self.n_outside
        return {
            "precision": self.hits / (self.hits + self.false),
            "recall": self.hits / self.n_inside,
            "margin": inside - outside,
            "inside": inside,
            "outside": outside,
        }

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Any = "") -> nn.Module:
        """Moves the metric; its sums first take a number type that the new device has."""
        dtype = widest_dtype(fn(torch.zeros(())).device)

        @wraps(fn)  # torchmetrics looks at its name: a change of number type alone does nothing
        def moved(state: Tensor) -> Tensor:
            narrows = dtype.itemsize < state.dtype.itemsize  # before it moves, or it could not
            return fn(state.to(dtype) if narrows else state).to(dtype)

        return super()._apply(moved, exclude_state)
