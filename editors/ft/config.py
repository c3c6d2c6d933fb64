"""Options of fine-tuning (FT); values and their sources are in configs/editor/ft*.yaml."""

from typing import ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from editors.options import DescentOptions


class FtOptions(DescentOptions):
    """Fine-tuning of the MLP matrices of the last layers on the edit alone."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True

    name: Literal["ft"]
    variant: Literal["tabulated", "as_run", "ft_l"]
    optimizer: Literal["adam", "adamw"]
    layers: int = Field(ge=1)
    norm_constraint: float | None = Field(gt=0)
    loss_at: Literal["answer", "prompt_last"]

    @field_validator("loss_at")
    @classmethod
    def _ends_behind_the_answer(cls, value: str, info: ValidationInfo) -> str:
        if value == "prompt_last" and info.data.get("teach_end"):
            raise ValueError(
                "with teach_end=true the end token would be taught in place of the answer's first "
                "token; set loss_at=answer or teach_end=false"
            )
        return value

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
