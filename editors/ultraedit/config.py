"""Options of UltraEdit (Gu et al., 2025); configs/editor/ultraedit.yaml has values and sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from editors.options import SiteOptions, TargetOptions
from errors import ConfigError, DataError
from options import TypedPath

if TYPE_CHECKING:
    from datamodules.records import Record

COMMAND = "python -m analysis statistics editor=ultraedit model=NAME data=NAME --output FILE"


class UltraEditOptions(SiteOptions, TargetOptions):
    """One least-squares step along normalised gradients; nothing is trained."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {**TargetOptions.added, **SiteOptions.added}

    name: Literal["ultraedit"]
    edit_lr: float = Field(gt=0)
    ridge: float = Field(gt=0)
    warm_up: int = Field(ge=0)
    statistics: TypedPath | None
    whitening: bool
    shrinkage: float = Field(gt=0, le=1)

    @property
    def label(self) -> str:
        """`ultraedit`, or `ultraedit_whitened`."""
        return f"{self.name}_whitened" if self.whitening else self.name

    @property
    def warm_up_edits(self) -> int:
        """Training edits that the statistics are taken of; a file takes their place."""
        return 0 if self.statistics is not None else self.warm_up

    @property
    def shows_records(self) -> bool:
        """Whether training edits are looked at."""
        return self.warm_up_edits > 0

    def check_records(self, tested: "Sequence[Record]", training: "Sequence[Record]") -> None:
        """Refuses a warm-up that the training split is too small for, and a missing file.

        Raises:
            ConfigError: there is no file `statistics`.
            DataError: there are fewer training records than edits of the warm-up.
        """
        if self.statistics is not None and not Path(self.statistics).is_file():
            raise ConfigError(
                f"editor.statistics={self.statistics}: there is no such file. Make it with "
                f"`{COMMAND}`, or set it to null and let editor.warm_up say of how many training "
                "edits the statistics are taken."
            )
        if len(training) < self.warm_up_edits:
            raise DataError(
                f"editor.warm_up={self.warm_up} takes statistics of so many edits of the training "
                f"split, which has {len(training)} records. Give more training records, lower "
                "editor.warm_up, or name a file of statistics (editor.statistics)."
            )
        super().check_records(tested, training)
