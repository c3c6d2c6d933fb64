"""Whether the edits of an evaluation teach many targets, or a few over and over.

With n_t edits of target t, n in all, the effective number of targets is that of as many equally
frequent ones (the inverse of Simpson's index),

    n_eff = n^2 / sum_t n_t^2.

An editor that gives one frequent target as its answer to everything is right that often, and edits
of one target succeed and fail together: an interval over records is then too narrow.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LARGEST = 0.10  # of the edits: a target that more of them teach dominates
FEWEST = 4  # edits of a target, below which its share means nothing
EFFECTIVE = 0.25  # of the edits: fewer effective targets are few


@dataclass(frozen=True)
class Concentration:
    """How edits are spread over their targets.

    Attributes:
        edits: how many there are, n.
        targets: how many different ones they teach.
        effective: n_eff, from 1 (all teach the same) to `targets` (all are equally frequent).
        largest: the target that most edits teach.
        largest_edits: how many those are.
    """

    edits: int
    targets: int
    effective: float
    largest: str
    largest_edits: int

    @classmethod
    def of(cls, counts: Mapping[str, int]) -> "Concentration | None":
        """That of some targets with their numbers of edits; None without an edit.

        >>> Concentration.of({"Paris": 3, "Rome": 1}).effective
        1.6
        """
        if not counts:
            return None
        edits, largest = sum(counts.values()), max(counts, key=lambda target: counts[target])
        effective = edits**2 / sum(n * n for n in counts.values())
        return cls(edits, len(counts), effective, largest, counts[largest])

    @classmethod
    def read(cls, stored: object) -> "Concentration | None":
        """From the form of `summary.json`; None where it is not well formed."""
        if not isinstance(stored, Mapping):
            return None
        kinds = {"edits": int, "targets": int, "effective": float, "largest": str,
                 "largest_edits": int}  # fmt: skip
        if any(not isinstance(stored.get(key), kind) for key, kind in kinds.items()):
            return None
        return cls(**{key: stored[key] for key in kinds})

    @property
    def is_high(self) -> bool:
        """Whether few targets dominate: one of them, or so few that they are few of the edits."""
        dominates = self.largest_edits >= FEWEST and self.largest_edits > LARGEST * self.edits
        return dominates or self.effective < EFFECTIVE * self.edits

    def warning(self, cluster: str) -> str:
        """What is to be said of intervals over some clusters; empty where few targets do not bear.

        Args:
            cluster: what is drawn together, the edits of one "subject" or "target", or a "record".
        """
        if not self.is_high:
            return ""
        remedy = (
            f" Intervals over {cluster}s are too narrow then: metrics.cluster=target draws all "
            "edits of one target together."
        )
        return f"Few targets: {self}.{'' if cluster == 'target' else remedy}"

    def as_dict(self) -> dict[str, Any]:
        """The form of `summary.json`."""
        return asdict(self)

    def __str__(self) -> str:
        """The numbers in words.

        >>> print(Concentration.of({"Paris": 3, "Rome": 1}))
        4 edits teach 2 targets, as if 1.6 were equally frequent; the largest, 'Paris', 3 (75 %)
        """
        return (
            f"{self.edits:,} edits teach {self.targets:,} targets, as if {self.effective:,.1f} "
            f"were equally frequent; the largest, {self.largest!r}, {self.largest_edits:,} "
            f"({100 * self.largest_edits / self.edits:.0f} %)"
        )
