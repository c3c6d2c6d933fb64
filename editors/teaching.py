"""The rows that teach some edits, and what holds for an edit of all of its rows.

    loss_e = 1/|R_e| sum_{r in R_e} loss_r        over the rows R_e that teach edit e

Most scenarios teach an edit with one row; scenario=joint with two, the question in text and the one
about the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.functional import row_mean
from models.editable import PrefixState
from models.rows import Answers, EditBatch


@dataclass(frozen=True)
class Lessons:
    """The answers that teach E edits, and which edit each is of.

    Attributes:
        at: the answers of K rows.
        edit: (K,) the edit that each row teaches, ascending from 0; none of the E is missing.
        n_edits: E.
    """

    at: Answers
    edit: Tensor
    n_edits: int

    @classmethod
    def joined(cls, parts: Sequence[Lessons]) -> Lessons:
        """The edits of several parts, counted through."""
        edit, n_edits = list[Tensor](), 0
        for part in parts:
            edit.append(part.edit + n_edits)
            n_edits += part.n_edits
        return cls(Answers.joined([part.at for part in parts]), torch.cat(edit), n_edits)

    @property
    def most_rows(self) -> int:
        """Rows of the edit that has most of them."""
        return int(self.edit.bincount(minlength=self.n_edits).max())

    @property
    def most_tokens(self) -> int:
        """Answer tokens of the edit that has most of them."""
        return int(self.token_edit.bincount(minlength=self.n_edits).max())

    @property
    def token_edit(self) -> Tensor:
        """The edit of each answer token: (N,)."""
        return self.edit[self.at.row]

    def by_length(self) -> Tensor:
        """The edits by their number of answer tokens: (E,); side by side they need no padding."""
        return self.token_edit.bincount(minlength=self.n_edits).argsort(stable=True)

    def select(self, edits: Tensor) -> Lessons:
        """Some edits, which are numbered anew in their order."""
        rows, edit = self._rows_of(edits)
        return Lessons(self.at.select(rows), edit, len(edits))

    def mean(self, of_rows: Tensor) -> Tensor:
        """The mean over each edit's rows: (K,) -> (E,)."""
        return row_mean(of_rows, self.edit, self.n_edits)

    def every(self, of_rows: Tensor) -> Tensor:
        """Whether something holds of each edit's every row: (K,) bool -> (E,) bool."""
        missed = torch.zeros(self.n_edits, dtype=torch.int64, device=of_rows.device)
        return missed.index_add(0, self.edit, (~of_rows).long()) == 0

    def _rows_of(self, edits: Tensor) -> tuple[Tensor, Tensor]:
        """The rows of some edits, and the place among these of the edit that each teaches."""
        edit, rows = (edits[:, None] == self.edit[None, :]).nonzero(as_tuple=True)
        return rows, edit


@dataclass(frozen=True)
class Teaching(Lessons):
    """The rows that teach E edits.

    Attributes:
        state: of the K rows.
    """

    state: PrefixState

    @classmethod
    def of(cls, batch: EditBatch, state: PrefixState) -> Teaching:
        """Those of a batch.

        Args:
            batch: the edits.
            state: the base model's state for all of its rows.
        """
        rows = batch.rows.select(batch.edit_rows)
        return cls(rows.answers(), rows.edit_index, len(batch), state.select(batch.edit_rows))

    def select(self, edits: Tensor, *, apart: bool = False) -> Teaching:
        """The rows of some edits, which are numbered anew in their order.

        Args:
            edits: their numbers.
            apart: every row in a sequence of its own.
        """
        rows, edit = self._rows_of(edits)
        state = self.state.select(rows, apart=apart)
        return Teaching(self.at.select(rows), edit, len(edits), state)
