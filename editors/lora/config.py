"""Options of LoRA; values and their sources are in configs/editor/lora.yaml."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import DescentOptions
from options import Seed


class LoraOptions(DescentOptions):
    """Low-rank adapters on both MLP matrices, fitted to the edit alone."""

    sequential: ClassVar[bool] = True

    name: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    layers: int | None = Field(ge=1)
    seed: Seed
