"""Many edits in one update of the unedited model: protocol=batch.

Every point of the protocol is an update of its own: n edits together are no continuation of fewer.
Nothing is made after them, so that what they come to right away is their point of the curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from lightning_modules.many_edits import ManyEditsModule
from models.rows import EditBatch
from results.folder import BATCH


class BatchModule(ManyEditsModule):
    """Makes the edits of each point together, and scores them."""

    protocol: ClassVar[str] = BATCH

    def to_make(self) -> Sequence[range]:
        """The updates whose points are not there yet.

        Lightning leaves out its hooks where nothing is served, so the smallest one is served where
        all are there.
        """
        return [t for t in self.turns if t.stop not in self._at_points] or self.turns[:1]

    def test_step(self, batch: EditBatch, batch_idx: int) -> None:
        """As of `ManyEditsModule`; of an update whose point is there nothing is made again."""
        turn, _ = self._served[batch_idx]
        if turn.stop not in self._at_points:
            super().test_step(batch, batch_idx)
