"""Options of ROME (Meng et al., 2022); configs/editor/rome.yaml has values and sources."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from datamodules.mentions import mentions
from datamodules.scenarios import ScenarioName
from editors.options import BaseFacts, TargetOptions
from errors import ConfigError, DataError, ModelError
from options import Seed, TypedPath

if TYPE_CHECKING:
    from datamodules.records import Record

FactToken = Literal["subject_last", "subject_first", "subject_first_after_last", "last"]
WHY_NOT = (
    "{method} needs the tokens of the subject's name in the edit prompt, and an edit prompt about "
    "a picture does not name the subject"
)
COMMAND = "python -m analysis second_moment model=NAME --layer {layer} --text FILE"


class LookupOptions(TargetOptions):
    """What editors have that write where a fact is looked up, at its subject (ROME, MEMIT)."""

    scenarios: ClassVar[frozenset[ScenarioName]] = frozenset(("unimodal", "transitive"))
    sequential: ClassVar[bool] = True
    needs_subject: ClassVar[bool] = True
    asks_longer: ClassVar[bool] = True

    fact_token: FactToken
    steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    weight_decay: float = Field(ge=0)
    clamp: float = Field(gt=0)
    kl: float = Field(ge=0)
    kl_prompt: str
    stop_loss: float = Field(ge=0)
    contexts: list[list[int]]
    seed: Seed

    @field_validator("kl_prompt")
    @classmethod
    def _names_the_subject(cls, value: str) -> str:
        if "{subject}" not in value:
            raise ValueError("it has no {subject} in it")
        return value

    @field_validator("contexts")
    @classmethod
    def _pairs(cls, value: list[list[int]]) -> list[list[int]]:
        if any(len(pair) != 2 or min(pair) < 1 or pair[0] < 2 for pair in value):
            raise ValueError(
                "pairs [length, number] are needed with a length of 2 or more, such as "
                "[[5,10],[10,10]], or [] for the plain prompt alone"
            )
        return value

    @property
    def label(self) -> str:
        """The method; with the lookup token where it is not the paper's: `rome_at_prompt_last`."""
        suffixes = {"subject_last": "", "last": "_at_prompt_last"}
        return self.method + suffixes.get(self.fact_token, f"_at_{self.fact_token}")

    @property
    def method(self) -> str:
        """The paper's name for what the options describe."""
        return self.name

    def check_record(self, record: "Record") -> None:
        """Refuses an edit whose question does not name its subject.

        Raises:
            DataError: it does not.
        """
        question = record.knowledge_edit.question
        if question is None or record.subject is None:
            lacks = "text question" if question is None else "subject"
            raise DataError(
                f"editor={self.method} edits at the subject of a text question, and the record "
                f"about {record.about!r} has no {lacks}. Use another editor, or leave it out "
                "(data.on_error=skip)."
            )
        if not mentions(question, record.subject, inside_words=True):
            raise DataError(
                f"editor={self.method} edits at the subject {record.subject!r}, which does not "
                f"occur in the edit's question {question!r}. Correct the record's subject or "
                "question, or leave it out (data.on_error=skip)."
            )

    def check_base(self, base: BaseFacts) -> None:
        """Refuses prefixes too long for the model.

        Raises:
            ModelError: with the longest prefix.
        """
        longest = max((length for length, _ in self.contexts), default=0)
        if base.positions is not None and longest > base.positions:
            raise ModelError(
                f"editor.contexts has a prefix of {longest} tokens, and this model reads "
                f"{base.positions} at once, the question behind it among them. Give shorter ones, "
                "such as [[5,10],[10,10]]."
            )

    def check_layer(self, layer: int, base: BaseFacts, named: str) -> None:
        """Refuses a layer that is not there, or that nothing reads.

        Args:
            layer: where the fact is written.
            base: the model's.
            named: the layer, as the configuration has it.

        Raises:
            ModelError: with the layers that can be edited.
        """
        if layer >= base.layers:
            raise ModelError(
                f"{named}: this model has decoder layers 0 to {base.layers - 1}; give a layer in "
                "that range."
            )
        if layer == base.layers - 1 and self.fact_token != "last":
            raise ModelError(
                f"{named} is the last one, and no later attention reads what it writes at "
                f"editor.fact_token={self.fact_token}. Give a lower layer."
            )


class RomeOptions(LookupOptions):
    """One rank-one update of one MLP's second matrix."""

    why_not: ClassVar[str] = WHY_NOT.format(method="ROME")

    name: Literal["rome"]
    layer: int = Field(ge=0)
    second_moment: TypedPath | None

    def check_records(self, tested: "Sequence[Record]", training: "Sequence[Record]") -> None:
        """Refuses an edit whose question does not name its subject, and a missing second moment.

        Raises:
            ConfigError: there is no file `second_moment`.
            DataError: a question does not name its subject.
        """
        if self.second_moment is not None and not Path(self.second_moment).is_file():
            raise ConfigError(
                f"editor.second_moment={self.second_moment}: there is no such file. Make it with "
                f"`{COMMAND.format(layer=self.layer)}`, or set it to null for the identity."
            )
        super().check_records(tested, training)

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a layer that is not there, or that nothing reads, and prefixes too long.

        Raises:
            ModelError: with the layers that can be edited, or the longest prefix.
        """
        super().check_base(base)
        self.check_layer(self.layer, base, f"editor.layer={self.layer}")
