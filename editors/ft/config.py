"""Options of fine-tuning (FT); values and their sources are in configs/editor/ft*.yaml."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import EditorOptions


class FtOptions(EditorOptions):
    """Fine-tuning of the MLP matrices of the last layers on the edit alone.

    Attributes:
        variant: label in the results, `tabulated` (the paper's table), `as_run` (its code) or
            `ft_l` (constrained, Meng et al. 2022).
        steps: largest number of optimiser steps per edit.
        optimizer: `adam` or `adamw`; the latter with torch's default weight decay of 0.01.
        lr: step size.
        layers: number of last decoder layers whose MLP is edited.
        stop_loss: stop an edit once its loss is below this, in nats per token; None: never.
        stop_when_argmax: also ask that every answer token is the argmax before stopping; alone
            (stop_loss None) it stops an edit as soon as that holds.
        norm_constraint: no weight moves further than this from its base value; None: no limit.
        loss_at: `answer`, each answer token is predicted where it stands (teacher forcing), or
            `prompt_last`, all of them at the prompt's last token, as published for FT-L.
    """

    sequential: ClassVar[bool] = True

    name: Literal["ft"]
    variant: Literal["tabulated", "as_run", "ft_l"]
    steps: int = Field(ge=1)
    optimizer: Literal["adam", "adamw"]
    lr: float = Field(gt=0)
    layers: int = Field(ge=1)
    stop_loss: float | None = Field(gt=0)
    stop_when_argmax: bool
    norm_constraint: float | None = Field(gt=0)
    loss_at: Literal["answer", "prompt_last"]

    @property
    def label(self) -> str:
        """The YAML file's name: `ft`, `ft_as_run` or `ft_l`."""
        return {"tabulated": "ft", "as_run": "ft_as_run", "ft_l": "ft_l"}[self.variant]
