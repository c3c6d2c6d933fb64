"""Edits that stay in place, turn after turn: protocol=sequential.

With turns of one edit, edit i is made on the model that the edits before it have changed. Every
edit is scored right after its turn, and again, with all others so far, at every point of the
protocol: what is lost between the two is what later edits undo.
"""

from __future__ import annotations

from typing import Any, ClassVar

from lightning_modules.evaluation import Metrics
from lightning_modules.many_edits import ManyEditsModule
from results.folder import SEQUENTIAL
from results.outcome import Outcome
from results.partial import BatchResult


class SequentialModule(ManyEditsModule):
    """Makes edits on top of each other; `turn` of `ManyEditsModule` is how many in one update.

    The edits themselves are stored nowhere: a run that is continued makes them again.

    Attributes:
        when_made: number of edits -> what each of the first ones came to right after its turn.
    """

    protocol: ClassVar[str] = SEQUENTIAL
    when_made: dict[int, Outcome]

    def add_made(self, part: BatchResult) -> None:
        """Keeps what edits came to right after their turn."""
        self.scored.add(part)

    def compute_outcome(self) -> Outcome:
        """What the edits came to at the last point; sets `curve` and `when_made` besides."""
        outcome = super().compute_outcome()
        self.when_made = {n: self.scored.outcome(n) for n in self.points}
        return outcome

    def summary_fields(self, metrics: Metrics) -> dict[str, Any]:
        """As of `ManyEditsModule`, and `when_made`, which is like `curve`."""
        fields = super().summary_fields(metrics)
        return fields | {"when_made": self.by_point(self.when_made, metrics)}
