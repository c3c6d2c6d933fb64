"""What the options of editors have in common, readable without torch.

An editor's own subclass stands in `editors/<name>/config.py` and says which keys
`configs/editor/<name>.yaml` may have. The YAML holds the values: the classes have no defaults.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from datamodules.scenarios import Questions, ScenarioName
from errors import DataError, ModelError, some_of
from models.sites import ROLES, Role
from options import Options, as_list

if TYPE_CHECKING:
    from datamodules.records import Record
    from models.deltas import Site
    from models.editable import EditableModel

EVERY_SCENARIO: frozenset[ScenarioName] = frozenset(get_args(ScenarioName))
SHOWN_EDITS: frozenset[ScenarioName] = frozenset(("multimodal", "reverse", "joint"))  # a picture


def _each_once(roles: list[Role]) -> list[Role]:
    if not roles:
        raise ValueError("name at least one matrix of a layer")
    if len(set(roles)) < len(roles):
        raise ValueError("name each matrix once")
    return sorted(roles, key=ROLES.index)


# Which linear maps of a layer are edited, typed in any order (`EditableModel.last_sites`).
Matrices = Annotated[list[Role], BeforeValidator(as_list), AfterValidator(_each_once)]


def _by_role(sites: dict[Role, list[int]]) -> dict[Role, list[int]]:
    _each_once(list(sites))
    for role, layers in sites.items():
        if not layers or len(set(layers)) < len(layers):
            raise ValueError(f"name at least one layer of {role}, and each once")
    return {role: sorted(sites[role]) for role in ROLES if role in sites}


# Linear maps one by one: role -> decoder layers, counted from 0 (`EditableModel.sites_of`).
LayersOfRoles = Annotated[dict[Role, list[Annotated[int, Field(ge=0)]]], AfterValidator(_by_role)]


class BaseFacts(NamedTuple):
    """What a base model's config.json says of its language model.

    Attributes:
        kind: `model_type`.
        vocabulary: width of the logits.
        layers: number of decoder layers.
        width: of its hidden states.
        positions: tokens that it reads at once; None: not known.
        roles: linear maps of its decoder layers; None: nobody looked, as every one has both
            matrices of an MLP.
    """

    kind: str
    vocabulary: int
    layers: int
    width: int
    positions: int | None = None
    roles: tuple[Role, ...] | None = None


class EditorOptions(Options):
    """What every editor has.

    Attributes:
        trained: whether `train.py` makes a checkpoint that `evaluate.py` needs.
        scenarios: where the method is defined (ROME needs the subject's tokens in the edit prompt).
        why_not: why it is not defined elsewhere, for the error that says so.
        sequential: whether its edits can stay in place while others follow, as
            `editors.base.Lasting` says.
        together: whether it makes many edits in one update, as `editors.base.EditsTogether` says.
        needs_subject: whether it edits at the subject's tokens in the edit's question.
        asks_longer: whether it puts texts before questions, as `editors.base.AsksLonger` says.
        renamed: keys that had another name once, old to new; checkpoints still have the old one.
        added: keys that there were not once, with what they would have said then; `a.b` is option b
            of section a.
        name: the folder of the method, not the YAML file's name: two files may share a method.
    """

    trained: ClassVar[bool] = False
    scenarios: ClassVar[frozenset[ScenarioName]] = EVERY_SCENARIO
    why_not: ClassVar[str] = ""
    sequential: ClassVar[bool] = False
    together: ClassVar[bool] = False
    needs_subject: ClassVar[bool] = False
    asks_longer: ClassVar[bool] = False
    renamed: ClassVar[Mapping[str, str]] = {}
    added: ClassVar[Mapping[str, Any]] = {}

    name: str

    @property
    def label(self) -> str:
        """What results call this editor; options that are another method get another name."""
        return self.name

    @property
    def shows_records(self) -> bool:
        """Whether the method shows training records to the model."""
        return False

    @property
    def edited_roles(self) -> Collection[Role]:
        """Roles of the linear maps that are edited, where the options choose them."""
        roles: list[Role] = getattr(self, "matrices", [])
        return roles

    @property
    def ends_target(self) -> bool:
        """Whether the end token is the last token of the target that teaches an edit."""
        return False

    @property
    def ties_picture(self) -> bool:
        """Whether an edit in text is handed the question about its picture too (`with_tie`)."""
        return False

    def check_records(self, tested: "Sequence[Record]", training: "Sequence[Record]") -> None:
        """Refuses records that this method cannot work with, before any model is loaded.

        Args:
            tested: the records that are to be edited.
            training: the records of the training split; none where the data has no such split.

        Raises:
            DataError: with the record's number and subject.
        """
        for number, record in enumerate(tested):
            try:
                self.check_record(record)
            except DataError as error:
                raise DataError(f"record {number}: {error}") from error

    def check_record(self, record: "Record") -> None:
        """Refuses a record that cannot be edited by this method.

        Raises:
            DataError: with the subject.
        """

    def check_demonstration(self, record: "Record") -> None:
        """Refuses a training record that this method could not show as an example.

        Raises:
            DataError: with the subject.
        """

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a base model that the options do not fit, before its weights load.

        Raises:
            ModelError: `layers` or `matrices`, which several editors have, are not there.
        """
        layers = getattr(self, "layers", None)
        if isinstance(layers, int) and layers > base.layers:
            raise ModelError(
                f"editor.layers={layers}: the base model has {base.layers} decoder layers. Give a "
                f"number from 1 to {base.layers}."
            )
        self._check_roles(base, "matrices", f"[{','.join(self.edited_roles)}]")

    def _check_roles(self, base: BaseFacts, key: str, value: str) -> None:
        """Refuses a base model without some of the maps that an option names."""
        if base.roles is not None and not set(self.edited_roles) <= set(base.roles):
            missing = " and ".join(role for role in self.edited_roles if role not in base.roles)
            raise ModelError(
                f"editor.{key}={value}: a decoder layer of the base model has no "
                f"{missing}. Its linear maps that can be edited are {', '.join(base.roles)}."
            )


class TargetOptions(EditorOptions):
    """What editors have that are fitted to the tokens of the target, or trained for it.

    LocFT-BF (ICLR 2026) has the end token in every target, for answers that are generated freely.
    """

    added: ClassVar[Mapping[str, Any]] = {"teach_end": False}

    teach_end: bool

    @property
    def ends_target(self) -> bool:
        """As `teach_end` says."""
        return self.teach_end


class SiteOptions(EditorOptions):
    """What editors have whose linear maps are chosen by role, and by layer or role by role.

    Published choices differ from role to role: UltraEdit takes of Llama-3 the gates of some middle
    layers and the first MLP matrices of others.

    Attributes:
        sites: in place of `layers` and `matrices`.
    """

    added: ClassVar[Mapping[str, Any]] = {"sites": None}

    layers: int = Field(ge=1)
    matrices: Matrices
    sites: LayersOfRoles | None

    @property
    def edited_roles(self) -> Collection[Role]:
        """Of `sites`, or `matrices`."""
        return self.matrices if self.sites is None else list(self.sites)

    def sites_in(self, model: "EditableModel") -> "list[Site]":
        """The linear maps that are edited, in layer order.

        Raises:
            ModelError: the model has not all of them.
        """
        if self.sites is None:
            return model.last_sites(self.layers, self.matrices)
        return model.sites_of(self.sites)

    def lowest_layer(self, n_layers: int) -> int:
        """The lowest edited layer of so many."""
        if self.sites is None:
            return max(0, n_layers - self.layers)
        return min(map(min, self.sites.values()))

    def check_base(self, base: BaseFacts) -> None:
        """Refuses a base model without the layers or the maps.

        Raises:
            ModelError: naming the layers or maps that there are.
        """
        if self.sites is None:
            super().check_base(base)
            return
        value = ",".join(f"{r}:[{','.join(map(str, of))}]" for r, of in self.sites.items())
        beyond = sorted({n for of in self.sites.values() for n in of if n >= base.layers})
        if beyond:
            raise ModelError(
                f"editor.sites={{{value}}}: the base model has decoder layers 0 to "
                f"{base.layers - 1}, and no {some_of(list(map(str, beyond)), 3)}. Give layers in "
                "that range."
            )
        self._check_roles(base, "sites", f"{{{value}}}")


class DescentOptions(TargetOptions):
    """What editors have that descend on the edit's own answer (`editors.answer_descent`)."""

    steps: int = Field(ge=1)
    lr: float = Field(gt=0)
    stop_loss: float | None = Field(gt=0)
    stop_when_argmax: bool


class OuterWeights(Options):
    """Weights of the outer loss; a term of weight 0 is not computed.

    `portability` is a term of the questions `text` alone, `image` of `image_text`, and `transfer`,
    `named` and `specificity` are terms of `transitive` (`editors.objective`).
    """

    reliability: float = Field(ge=0)
    generality: float = Field(ge=0)
    portability: float = Field(ge=0)
    image: float = Field(ge=0)
    transfer: float = Field(ge=0)
    named: float = Field(ge=0)
    locality: float = Field(ge=0)
    specificity: float = Field(ge=0)


class TrainedEditorOptions(TargetOptions):
    """What every learned editor has besides; a batch of B independent edits counts as B edits.

    Attributes:
        training_only: options that say how an editor is trained, or where its parts lie, and not
            what it then is; `a.b` is option b of section a.
        rates: those of the optimiser's groups, which a training that goes on may get anew.
    """

    trained: ClassVar[bool] = True
    training_only: ClassVar[frozenset[str]] = frozenset(
        (
            "max_iterations",
            "batch_size",
            "accumulate",
            "grad_clip",
            "lr_schedule",
            "questions",
            "weights",
        )
    )

    rates: ClassVar[frozenset[str]] = frozenset(("lr",))
    added: ClassVar[Mapping[str, Any]] = {
        **TargetOptions.added,
        "weights.transfer": 0.0, "weights.named": 0.0, "weights.specificity": 0.0,
    }  # fmt: skip

    max_iterations: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    accumulate: int = Field(ge=1)
    grad_clip: float = Field(gt=0)
    lr_schedule: Literal["constant", "cosine"]
    questions: Questions | None
    weights: OuterWeights

    def questions_for(self, scenario: ScenarioName) -> Questions:
        """Whether the outer loss asks in text, shows pictures or does both; by itself, as the edit.

        Of an edit in both it shows pictures: that loss has the localities of both.
        """
        return self.questions or ("image_text" if scenario in SHOWN_EDITS else "text")

    def lowest_layer(self, n_layers: int) -> int:
        """`Editor.first_layer` in training, known before a model is: 0 reads all of its weights.

        Args:
            n_layers: decoder layers of the base model.
        """
        return 0

    def check_training(self) -> None:
        """Makes sure that what training alone needs is there, before any model is loaded.

        Raises:
            ModelError: something is missing.
        """

    @property
    def n_updates(self) -> int:
        """In how many updates the edits of a training batch (`served`) are made, and stay in place.

        `batch_size` then changes speed and memory only. 0: each edit is made and judged alone.
        """
        return 0

    def served(self, processes: int = 1) -> int:
        """Edits of one training batch, as each of some data-parallel processes gets it."""
        return self.batch_size

    def judged(self, at_once: int) -> int:
        """Edits of one validation batch, where so many are judged side by side."""
        return at_once

    def optimiser_steps(self, processes: int = 1) -> int:
        """Number of optimiser steps that take `max_iterations` edits.

        Args:
            processes: data-parallel processes, each with its own batches.

        Returns:
            Steps, rounded up.
        """
        return math.ceil(
            self.max_iterations / (self.served(processes) * self.accumulate * processes)
        )
