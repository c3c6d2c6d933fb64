"""Options of fine-tuning (FT); values and their sources are in configs/editor/ft*.yaml."""

from typing import ClassVar, Literal

from pydantic import Field

from editors.options import DescentOptions


class FtOptions(DescentOptions):
    """Fine-tuning of the MLP matrices of the last layers on the edit alone.

    Attributes:
        variant: label in the results, `tabulated` (the paper's table), `as_run` (its code) or
            `ft_l` (constrained, Meng et al. 2022).
        optimizer: `adam` or `adamw`; the latter with torch's default weight decay of 0.01.
        layers: number of last decoder layers whose MLP is edited.
        norm_constraint: no weight moves further than this from its base value; None: no limit.
        loss_at: `answer`, each answer token is predicted where it stands (teacher forcing), or
            `prompt_last`, all of them at the prompt's last token, as published for FT-L.
    """

    sequential: ClassVar[bool] = True

    name: Literal["ft"]
    variant: Literal["tabulated", "as_run", "ft_l"]
    optimizer: Literal["adam", "adamw"]
    layers: int = Field(ge=1)
    norm_constraint: float | None = Field(gt=0)
    loss_at: Literal["answer", "prompt_last"]

    @property
    def label(self) -> str:
        """The YAML file's name: `ft`, `ft_as_run` or `ft_l`."""
        return {"tabulated": "ft", "as_run": "ft_as_run", "ft_l": "ft_l"}[self.variant]

    @property
    def weight_decay(self) -> float:
        """The optimiser's default in torch, which the authors' code leaves as it is."""
        return 0.01 if self.decoupled else 0.0

    @property
    def decoupled(self) -> bool:
        """Whether the optimiser is AdamW."""
        return self.optimizer == "adamw"
