"""Options of MALMEN (Tan et al., 2024); configs/editor/malmen.yaml has values and sources."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from editors.options import SiteOptions, TrainedEditorOptions
from errors import ConfigError


class MalmenOptions(SiteOptions, TrainedEditorOptions):
    """Editor networks that say what each answer token asks for, and a least-squares update."""

    training_only: ClassVar[frozenset[str]] = TrainedEditorOptions.training_only | {
        "n_edits", "net_batch", "lr", "lr_of_edit_lr", "lr_of_ridge", "edit_lr", "ridge",
        "init_std",
    }  # fmt: skip
    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {**TrainedEditorOptions.added, **SiteOptions.added}
    rates: ClassVar[frozenset[str]] = frozenset(("lr", "lr_of_edit_lr", "lr_of_ridge"))

    name: Literal["malmen"]
    n_edits: int = Field(ge=1)
    net_batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    edit_lr: float = Field(gt=0)
    lr_of_edit_lr: float = Field(ge=0)
    ridge: float = Field(gt=0)
    lr_of_ridge: float = Field(ge=0)
    rank: int = Field(ge=1)
    n_blocks: int = Field(ge=1)
    init_std: float = Field(gt=0)

    @property
    def n_updates(self) -> int:
        """All edits of a batch are made at once."""
        return 1

    def served(self, processes: int = 1) -> int:
        """Each process's share of the `n_edits` of an update.

        Raises:
            ConfigError: they cannot be shared out evenly.
        """
        if self.n_edits % processes:
            raise ConfigError(
                f"editor.n_edits={self.n_edits} edits of an update cannot be shared out evenly "
                f"among {processes} processes. Give a multiple of {processes}."
            )
        return self.n_edits // processes

    def judged(self, at_once: int) -> int:
        """As in training, updates of `n_edits`."""
        return self.n_edits
