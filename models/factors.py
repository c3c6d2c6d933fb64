"""The factors of a loss's gradient at linear maps, token by token: dL/dW = sum_t delta_t x_t^T.

Each edit is taught by one row or more, and L is the sum over edits of the mean over their rows of
the answer's NLL: every edit has the factors that it has alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from metrics.functional import row_mean
from models.deltas import Groups
from models.rows import Answers


@dataclass(frozen=True)
class Factors:
    """Per-token factors of dL/dW at one site.

    Attributes:
        x: (E, n, d_in) layer inputs.
        delta: (E, n, d_out) gradients of the loss at the layer's output.
        mask: (E, n) true on real tokens; padding holds arbitrary values.
    """

    x: Tensor
    delta: Tensor
    mask: Tensor

    def of_one_edit(self) -> Factors:
        """The same tokens as those of one edit, E = 1, which all the edits are taken for."""
        return Factors(*(of.flatten(0, 1)[None] for of in (self.x, self.delta, self.mask)))


class TeachingTokens:
    """The tokens of the rows that teach some edits, sorted by edit.

    Args:
        at: the answers of the rows.
        edit: (R,) the edit that each row teaches, ascending from 0; None: each row one.
    """

    def __init__(self, at: Answers, edit: Tensor | None) -> None:
        self._edit = torch.arange(at.n_rows, device=at.row.device) if edit is None else edit
        self.n_edits = int(self._edit[-1]) + 1
        self._rows = Groups(self._edit, self.n_edits)
        self._answers = Groups(self._edit[at.row], self.n_edits)

    def loss(self, logits: Tensor, at: Answers) -> Tensor:
        """Sum over edits of the mean of their rows' mean answer NLL.

        Args:
            logits: (N, V).
            at: the answers of the rows.
        """
        of_rows = at.row_mean(F.cross_entropy(logits, at.target, reduction="none"))
        return row_mean(of_rows, self._edit, self.n_edits).sum()

    def of_answers(self, x: Tensor, delta: Tensor) -> Factors:
        """Factors of answer tokens, (N, d_in) and (N, d_out)."""
        return Factors(self._answers.split(x), self._answers.split(delta), self._answers.mask)

    def of_rows(self, x: Tensor, delta: Tensor, n_tokens: int) -> Factors:
        """Factors of all tokens of rows of one length, (R, T, d) or (R * T, d)."""
        shape = (self._rows.n_items, n_tokens, -1)
        x, delta = (self._rows.split(v.reshape(shape)).flatten(1, 2) for v in (x, delta))
        return Factors(x, delta, self._rows.mask.repeat_interleave(n_tokens, 1))
