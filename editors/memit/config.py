"""Options of MEMIT (Meng et al., 2023) and AlphaEdit (Fang et al., 2025).

configs/editor/memit.yaml and configs/editor/alphaedit.yaml have values and sources.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from editors.options import BaseFacts
from editors.rome.config import COMMAND, WHY_NOT, LookupOptions
from errors import ConfigError
from options import Files

if TYPE_CHECKING:
    from datamodules.records import Record

LAYER_MARK = "*"  # stands for the layer's number in the name of a file


class MemitOptions(LookupOptions):
    """One update of the second MLP matrix of each of some layers."""

    why_not: ClassVar[str] = WHY_NOT.format(method="MEMIT")
    together: ClassVar[bool] = True

    name: Literal["memit"]
    layers: list[int]
    ridge: float = Field(gt=0)
    second_moments: Files
    null_space: bool
    threshold: float = Field(gt=0)

    @field_validator("layers")
    @classmethod
    def _ascending(cls, value: list[int]) -> list[int]:
        if not value or value[0] < 0 or any(low >= high for low, high in pairwise(value)):
            raise ValueError("numbers of layers are needed, from 0 and ascending, such as [3,4,5]")
        return value

    @model_validator(mode="after")
    def _a_file_for_each_layer(self) -> Self:
        files = self.second_moments
        if files is None or len(files) == len(self.layers):
            return self
        if len(files) != 1 or LAYER_MARK not in files[0]:
            raise ValueError(
                f"second_moments has {len(files)} file(s) for {len(self.layers)} layers; give one "
                f"for each, in their order, or one name with {LAYER_MARK} for the layer's number"
            )
        return self

    @property
    def method(self) -> str:
        """`memit`, or `alphaedit` in the null space."""
        return "alphaedit" if self.null_space else self.name

    @property
    def files(self) -> dict[int, str]:
        """Layer -> file of its second moment; empty for the identity."""
        files = self.second_moments or []
        if len(files) == 1:
            files = files * len(self.layers)
        return {
            layer: file.replace(LAYER_MARK, str(layer))
            for layer, file in zip(self.layers, files, strict=bool(files))
        }

    def check_records(self, tested: "Sequence[Record]", training: "Sequence[Record]") -> None:
        """Refuses missing second moments, and an edit whose question does not name its subject.

        Raises:
            ConfigError: a file of `second_moments` is missing, or the null space of none is asked.
            DataError: a question does not name its subject.
        """
        make = COMMAND.format(layer=",".join(map(str, self.layers)))
        if self.null_space and self.second_moments is None:
            raise ConfigError(
                "editor.null_space=true writes where the keys of a text have next to nothing, and "
                "editor.second_moments names no file that says where that is. Make one for each "
                f"layer with `{make}`, or set editor.null_space=false."
            )
        for file in self.files.values():
            if not Path(file).is_file():
                raise ConfigError(
                    f"editor.second_moments: there is no file {file}. Make it with `{make}`, or "
                    "set editor.second_moments=null for the identity (not with editor.null_space)."
                )
        super().check_records(tested, training)

    def check_base(self, base: BaseFacts) -> None:
        """Refuses layers that are not there, or that nothing reads, and prefixes too long.

        Raises:
            ModelError: with the layers that can be edited, or the longest prefix.
        """
        super().check_base(base)
        layers = f"[{','.join(map(str, self.layers))}]"
        self.check_layer(
            self.layers[-1], base, f"layer {self.layers[-1]} of editor.layers={layers}"
        )
