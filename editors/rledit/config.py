"""Options of RLEdit (Li et al., 2025); configs/editor/rledit.yaml has values and sources."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.malmen.config import MalmenOptions


class RleditOptions(MalmenOptions):
    """MALMEN's, and the trajectories that the networks are trained along."""

    training_only: ClassVar[frozenset[str]] = MalmenOptions.training_only | {
        "turns", "discount", "memory", "norm_weight",
    }  # fmt: skip

    name: Literal["rledit"]  # type: ignore[assignment]
    turns: int = Field(ge=1)
    discount: float = Field(gt=0, le=1)
    memory: int = Field(ge=0)
    norm_weight: float = Field(ge=0)

    @property
    def n_updates(self) -> int:
        """A trajectory's turns."""
        return self.turns

    def served(self, processes: int = 1) -> int:
        """Each process's share of the edits of a trajectory.

        Raises:
            ConfigError: those of an update cannot be shared out evenly.
        """
        return self.turns * super().served(processes)

    def judged(self, at_once: int) -> int:
        """As in training, trajectories."""
        return self.turns * self.n_edits
