"""Options of fine-tuning (FT); values and their sources are in configs/editor/ft*.yaml."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator

from editors.options import BaseFacts, DescentOptions, Matrices
from errors import DataError, ModelError
from models.sites import ATTENTION_ROLES, MLP_ROLES

if TYPE_CHECKING:
    from datamodules.records import Record

_LABELS = {"tabulated": "ft", "as_run": "ft_as_run", "ft_l": "ft_l", "ft_bf": "ft_bf"}


class FtOptions(DescentOptions):
    """Fine-tuning of linear maps of some layers on the edit alone, or on all edits of a turn."""

    sequential: ClassVar[bool] = True
    together: ClassVar[bool] = True
    added: ClassVar[Mapping[str, Any]] = {
        **DescentOptions.added, "matrices": [*MLP_ROLES], "layer": None,
        "breadth_first": False, "minibatch": 100, "tie": None,
    }  # fmt: skip

    name: Literal["ft"]
    variant: Literal["tabulated", "as_run", "ft_l", "ft_bf"]
    optimizer: Literal["adam", "adamw"]
    layers: int = Field(ge=1)
    layer: int | None = Field(ge=0)
    matrices: Matrices
    breadth_first: bool
    minibatch: int = Field(ge=1)
    norm_constraint: float | None = Field(gt=0)
    loss_at: Literal["answer", "prompt_last"]
    tie: float | None = Field(gt=0)

    @field_validator("loss_at")
    @classmethod
    def _ends_behind_the_answer(cls, value: str, info: ValidationInfo) -> str:
        if value == "prompt_last" and info.data.get("teach_end"):
            raise ValueError(
                "with teach_end=true the end token would be taught in place of the answer's first "
                "token; set loss_at=answer or teach_end=false"
            )
        return value

    @field_validator("tie")
    @classmethod
    def _has_its_keys(cls, value: float | None, info: ValidationInfo) -> float | None:
        """What enters the edited maps must be the same before and after the edit."""
        needed = {"layers": 1, "layer": None, "loss_at": "answer"}
        others = [key for key, of_key in needed.items() if info.data.get(key, of_key) != of_key]
        if not set(ATTENTION_ROLES).isdisjoint(info.data.get("matrices", ())):
            others.append("matrices")
        if value is not None and others:
            raise ValueError(
                "it compares what the MLP of the last layer changes at each answer token: set "
                "layers=1, layer=null, loss_at=answer and matrices of the MLP (differing: "
                f"{', '.join(others)}), or tie=null"
            )
        return value

    @property
    def ties_picture(self) -> bool:
        """As `tie` says."""
        return self.tie is not None

    @property
    def label(self) -> str:
        """The YAML file's name."""
        return _LABELS[self.variant]

    @property
    def weight_decay(self) -> float:
        """The optimiser's default in torch, which the authors' code leaves as it is."""
        return 0.01 if self.decoupled else 0.0

    @property
    def decoupled(self) -> bool:
        """Whether the optimiser is AdamW."""
        return self.optimizer == "adamw"

    def check_record(self, record: "Record") -> None:
        """Refuses a record without the picture that a tie is about.

        Raises:
            DataError: with the subject.
        """
        edit = record.knowledge_edit
        if self.ties_picture and (record.image is None or edit.image_question is None):
            missing = "picture" if record.image is None else "question about a picture"
            raise DataError(
                f"editor.tie={self.tie}: it ties the edit in text to the picture of its subject, "
                f"and the record has no {missing} of {record.about!r}; set editor.tie=null, or use "
                "data with pictures."
            )

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a base model that the options do not fit, before its weights load.

        Raises:
            ModelError: as `EditorOptions.check_base`; or `layer` is not there, or fewer than
                `layers` end with it.
        """
        super().check_base(base)
        if self.layer is None:
            return
        if self.layer >= base.layers:
            raise ModelError(
                f"editor.layer={self.layer}: the base model has decoder layers 0 to "
                f"{base.layers - 1}; give a layer in that range, or null for the last one."
            )
        if self.layers > self.layer + 1:
            raise ModelError(
                f"editor.layers={self.layers} with editor.layer={self.layer}: no more than "
                f"{self.layer + 1} layers end with that one. Lower editor.layers, or give a higher "
                "editor.layer."
            )
