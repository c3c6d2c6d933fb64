"""Means over edits of what neurons have in common, with intervals and levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from metrics.bootstrap import estimate, paired_difference
from results.partial import Line


class Judge:
    """Makes means of lines that hold `edit_id`, as neurons.json has them.

    Args:
        seed: of the bootstrap.
        clusters: edit -> what it is drawn together by; None: each alone.
    """

    def __init__(self, seed: int, clusters: Mapping[int, str] | None = None) -> None:
        self._seed, self._clusters = seed, clusters

    def __call__(self, lines: Sequence[Line], measure: str, chance: str) -> dict[str, Any]:
        """A measure in percent, its two levels, and how far it is above that of other subjects.

        Args:
            lines: those in which the measure is null are left out.
            measure: column of the measure.
            chance: column of the level of chance; the other level is called alike.
        """
        unrelated = chance.replace("chance", "unrelated")
        measured = [line for line in lines if line[measure] is not None]
        both = [line for line in measured if line[unrelated] is not None]
        above = paired_difference(
            [100 * line[measure] for line in both],
            [100 * line[unrelated] for line in both],
            seed=self._seed,
            clusters=self._labels(both),
        )
        return {
            "value": self.mean(measured, measure, 100),
            "chance": self.mean(measured, chance, 100),
            "unrelated": self.mean(both, unrelated, 100),
            "above_unrelated": above.as_dict(),
        }

    def mean(self, lines: Sequence[Line], column: str, scale: float = 1.0) -> dict[str, object]:
        """The mean of one column with its interval."""
        values = [line[column] for line in lines]
        found = estimate(values, seed=self._seed, scale=scale, clusters=self._labels(lines))
        return found.as_dict()

    def _labels(self, lines: Sequence[Line]) -> list[str] | None:
        if self._clusters is None:
            return None
        return [self._clusters[line["edit_id"]] for line in lines]
