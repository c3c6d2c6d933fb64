"""Options of LoRA; values and their sources are in configs/editor/lora.yaml."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import BaseFacts, DescentOptions
from errors import ModelError
from options import Seed


class LoraOptions(DescentOptions):
    """Low-rank adapters on both MLP matrices, fitted to the edit alone."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True

    name: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    layers: int | None = Field(ge=1)
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
