"""Options of LoRA; values and their sources are in configs/editor/lora.yaml."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from editors.options import BaseFacts, DescentOptions, Matrices
from errors import ModelError
from models.sites import MLP_ROLES
from options import Seed


class LoraOptions(DescentOptions):
    """Low-rank adapters on linear maps of the last layers, fitted to the edit alone."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {**DescentOptions.added, "matrices": [*MLP_ROLES]}

    name: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    layers: int | None = Field(ge=1)
    matrices: Matrices
    seed: Seed

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a rank that no matrix of the base model has.

        Raises:
            ModelError: it is larger than the model's width.
        """
        super().check_base(base)
        if self.rank > base.width:
            raise ModelError(
                f"editor.rank={self.rank}: the base model's matrices have at most rank "
                f"{base.width}, its width. Give a number from 1 to {base.width}."
            )
