"""Options of fine-tuning (FT); values and their sources are in configs/editor/ft*.yaml."""

from typing import ClassVar, Literal

from pydantic import Field, model_validator

from editors.options import DescentOptions


class FtOptions(DescentOptions):
    """Fine-tuning of the MLP matrices of the last layers on the edit alone."""

    sequential: ClassVar[bool] = True

    name: Literal["ft"]
    variant: Literal["tabulated", "as_run", "ft_l"]
    optimizer: Literal["adam", "adamw"]
    layers: int = Field(ge=1)
    norm_constraint: float | None = Field(gt=0)
    loss_at: Literal["answer", "prompt_last"]

    @model_validator(mode="after")
    def _ends_behind_the_answer(self) -> "FtOptions":
        if self.teach_end and self.loss_at == "prompt_last":
            raise ValueError(
                "teach_end=true with loss_at=prompt_last would teach the end token in place of the "
                "answer's first token; set loss_at=answer or teach_end=false"
            )
        return self

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
