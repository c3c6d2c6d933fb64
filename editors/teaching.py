"""The rows that teach some edits, and what holds for an edit of all of its rows.

    loss_e = 1/|R_e| sum_{r in R_e} loss_r        over the rows R_e that teach edit e

Most scenarios teach an edit with one row; scenario=joint with two, the question in text and the one
about the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.functional import row_mean
from models.editable import PrefixState
from models.rows import Answers, EditBatch


@dataclass(frozen=True)
class Teaching:
    """The rows that teach E edits.

    Attributes:
        state: of the K rows.
        at: their answers.
        edit: (K,) the edit that each row teaches, ascending from 0; none of the E is missing.
        n_edits: E.
    """

    state: PrefixState
    at: Answers
    edit: Tensor
    n_edits: int

    @classmethod
    def of(cls, batch: EditBatch, state: PrefixState) -> Teaching:
        """Those of a batch.

        Args:
            batch: the edits.
            state: the base model's state for all of its rows.
        """
        return cls(
            state.select(batch.edit_rows),
            batch.rows.select(batch.edit_rows).answers(),
            batch.rows.edit_index[batch.edit_rows],
            len(batch),
        )

    @property
    def most_rows(self) -> int:
        """Rows of the edit that has most of them."""
        return int(self.edit.bincount(minlength=self.n_edits).max())

    @property
    def token_edit(self) -> Tensor:
        """The edit of each answer token: (N,)."""
        return self.edit[self.at.row]

    def by_length(self) -> Tensor:
        """The edits by their number of answer tokens: (E,); side by side they need no padding."""
        return self.token_edit.bincount(minlength=self.n_edits).argsort(stable=True)

    def select(self, edits: Tensor, *, apart: bool = False) -> Teaching:
        """The rows of some edits, which are numbered anew in their order.

        Args:
            edits: their numbers.
            apart: every row in a sequence of its own.
        """
        edit, rows = (edits[:, None] == self.edit[None, :]).nonzero(as_tuple=True)
        state = self.state.select(rows, apart=apart)
        return Teaching(state, self.at.select(rows), edit, len(edits))

    def mean(self, of_rows: Tensor) -> Tensor:
        """The mean over each edit's rows: (K,) -> (E,)."""
        return row_mean(of_rows, self.edit, self.n_edits)

    def every(self, of_rows: Tensor) -> Tensor:
        """Whether something holds of each edit's every row: (K,) bool -> (E,) bool."""
        missed = torch.zeros(self.n_edits, dtype=torch.int64, device=of_rows.device)
        return missed.index_add(0, self.edit, (~of_rows).long()) == 0
