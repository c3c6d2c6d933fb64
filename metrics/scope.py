"""How well a scope classifier tells questions about an edit from all others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


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
        probabilities = probabilities.detach().double()
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
