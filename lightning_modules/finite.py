"""Ends a run where a model's answers are no numbers, and says of which edit and probe they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from errors import ModelError
from models.editable import EditableModel
from models.finite import check_own_logits, describe_nonfinite, number_type
from models.rows import EditBatch


@dataclass(frozen=True)
class FiniteCheck:
    """Looks at the largest logit of each answer token.

    Attributes:
        batch: the edits and probes that are asked.
        editor: the editor's name.
    """

    batch: EditBatch
    model: EditableModel
    editor: str

    def unedited(self, best: Tensor, row: Tensor) -> None:
        """Of the unedited model.

        Args:
            best: (N,) largest logits.
            row: (N,) the row of the batch that each belongs to.

        Raises:
            ModelError: one is not finite.
        """
        check_own_logits(self.model, best, lambda index: self._asked(int(row[index])))

    def edited(self, best: Tensor, row: Tensor) -> None:
        """Of the edited models; arguments as above.

        Raises:
            ModelError: one is not finite.
        """
        found = describe_nonfinite(best, lambda index: self._asked(int(row[index])))
        if found:
            more = "" if self.model.dtype == torch.float32 else " set model.dtype=float32,"
            raise ModelError(
                f"editor={self.editor}: the edited model's logits are {found}; the unedited "
                f"model's are numbers, and {number_type(self.model)}. This edit has no result: it "
                "diverged, or numbers overflowed under it. Make edits weaker (a lower editor.lr, "
                f"fewer editor.steps, another layer or checkpoint),{more} or take this record out "
                "of the data. What was scored before is kept in the run's folder."
            )

    def _asked(self, row: int) -> str:
        batch = self.batch
        edit = int(batch.rows.edit_index[row])
        probes = [name for name, rows in batch.probes.items() if row in rows.tolist()]
        return (
            f"edit {batch.edit_ids[edit]} ({batch.subjects[edit]}), probe "
            f"{probes[0] if probes else 'of the edit itself'}: {batch.rows.questions[row]!r}"
        )
