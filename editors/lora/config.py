"""Options of LoRA; values and their sources are in configs/editor/lora.yaml."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import EditorOptions


class LoraOptions(EditorOptions):
    """Low-rank adapters on both MLP matrices, fitted to the edit alone.

    Attributes:
        rank: r, rows of A and columns of B.
        alpha: the change of a matrix is alpha / rank * B A.
        layers: number of last decoder layers that get adapters; None: all layers.
        steps: largest number of Adam steps per edit.
        lr: step size.
        stop_loss: stop an edit once its loss is below this, in nats per token; None: never.
        stop_when_argmax: also ask that every answer token is the argmax before stopping; alone
            (stop_loss None) it stops an edit as soon as that holds.
        seed: of A's initial values, the same for every edit.
    """

    sequential: ClassVar[bool] = True

    name: Literal["lora"]
    rank: int = Field(ge=1)
    alpha: int = Field(ge=1)
    layers: int | None = Field(ge=1)
    steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    stop_loss: float | None = Field(gt=0)
    stop_when_argmax: bool
    seed: int = Field(ge=0)
