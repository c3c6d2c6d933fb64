"""What an editor is: from a batch of edits to a value that answers rows as the edited models would.

An edit is data, not a copy of the model. `Editor.edit` looks at B independent single edits and
returns one value for all of them; the value answers any rows of the batch, each row under its own
edit, and leaves no trace in the base weights. docs/add-an-editor.md says how to add one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, Self, runtime_checkable

from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from datamodules.records import Record
from editors.turn import Turn
from errors import DataError
from models.deltas import Deltas, join_deltas
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows, RowText


class Edit(Protocol):
    """B single edits, ready to answer."""

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens of `rows`, each row under its own edit.

        Args:
            model: the base model.
            rows: the rows asked.
            state: the base model's state for these rows, on entering `Editor.first_layer`.
            at: the answer tokens to predict.

        Returns:
            Logits (N, V), float32, in the order of `at`.
        """
        ...


class Editor(Protocol):
    """A method of single knowledge editing.

    One that puts a text before every question may say `compares_answers_only = True`: localities
    are then compared at the answers under `metrics.positions=all` too. One whose edits go by the
    unedited model's own logits (`EditableModel.unedited`) may say `asks_unedited = True`: a state
    then keeps those that were computed last.
    """

    name: str

    def first_layer(self, model: EditableModel) -> int:
        """The lowest decoder layer that an edit can change; everything below is shared."""
        ...

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> Edit:
        """Makes the edits of a batch.

        Args:
            model: the base model, never changed.
            batch: the edits; `batch.edit_rows` are the rows that teach them, of some methods
                several one edit.
            state: the base model's state for all rows of the batch, entering `first_layer`.
        """
        ...


def state_for(editor: Editor, state: PrefixState) -> PrefixState:
    """A state as an editor needs it: it remembers the unedited answers that its edits ask for."""
    return state.remembering() if getattr(editor, "asks_unedited", False) else state


@runtime_checkable
class Lasting(Edit, Protocol):
    """One edit (B = 1) that can stay in place while others follow (protocol=sequential)."""

    def after(self, earlier: Self | None) -> Self:
        """This edit on top of earlier ones, as one edit; all rows are answered under its number 0.

        Args:
            earlier: all edits made before it, from this same function; None for the first.
        """
        ...

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """Inside the block the base model is the edited one, for the next edit to be made on."""
        ...


@runtime_checkable
class EditsTogether(Protocol):
    """Editors that make many edits in one update (protocol=batch, and the turns of sequential).

    Of a single edit it gives what `Editor.edit` gives, unless the method carries something from one
    turn to the next.
    """

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> Lasting:
        """One update that teaches all edits of a turn.

        Args:
            model: the base model, with earlier edits in place.
            turn: the edits.
            earlier: all turns before this one, which the model is under, from this same function
                and `Lasting.after`; None for the first. What a method carries from turn to turn
                (statistics, keys) is part of it.

        Returns:
            This turn's update alone, as one edit (B = 1).
        """
        ...


@runtime_checkable
class Reporting(Protocol):
    """Edits that have more to tell than their scores."""

    def report(self) -> dict[str, list[float]]:
        """Numbers per edit, once they have answered; the result's `editor_report` has the means.

        Edits that are in place together have one for each, in the order in which they were taught,
        or a single one for all.
        """
        ...


@runtime_checkable
class HoldsMemory(Protocol):
    """Editors whose edits take memory until they are scored."""

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """Bytes that the edits of a batch take at their peak, beyond what `model.budget` limits.

        Args:
            model: the base model.
            batch: its rows may have no picture features yet.
        """
        ...


@runtime_checkable
class Remembering(Protocol):
    """Edits that show later questions no more than had room before earlier ones."""

    def anew(self) -> Self:
        """The same edit, as before its first question."""
        ...


@runtime_checkable
class Scoped(Protocol):
    """Edits that decide for each question whether it is about them."""

    def scope_probabilities(self, model: EditableModel, rows: Rows, state: PrefixState) -> Tensor:
        """How sure they are that it is: (R,). Arguments as those of `Edit.answer`."""
        ...


@runtime_checkable
class ReadsMore(Protocol):
    """Edits that have more read than a row: a text before its question, or by another model."""

    def room(self, model: EditableModel, rows: Rows) -> list[int]:
        """Tokens by which each row may still grow before a model has no position for it: (R,).

        Args:
            model: the base model.
            rows: their texts say how long they are, the beginning of a generated answer too.
        """
        ...


@runtime_checkable
class AsksLonger(Protocol):
    """Editors that put texts before questions, so that a row which fits may not fit with them."""

    def check_lengths(self, edit: Sequence[RowText], asked: Sequence[RowText]) -> None:
        """Refuses an edit some of whose rows a model could not read.

        Args:
            edit: the questions that teach it, with the new answer.
            asked: its probes.

        Raises:
            DataError: a row is too long; says how long, and what to do.
        """
        ...


TrainingEdits = Callable[[int], Iterable[EditBatch]]


def _no_training_edits(n_edits: int) -> Iterable[EditBatch]:
    raise DataError(f"{n_edits} edits of a training split are needed, and there is none here.")


@dataclass(frozen=True)
class EditorInputs:
    """What a run knows besides the base model; every `build(options, model, inputs)` gets it.

    Attributes:
        training: the records of the training split, for editors that show examples.
        training_edits: number -> so many edits of the training split as the run's scenario teaches
            them, with nothing asked of them, in batches on the model's device; for editors that
            look at the base model before the first test edit.
    """

    encoder: PromptEncoder
    training: Sequence[Record] = ()
    training_edits: TrainingEdits = _no_training_edits


@dataclass(frozen=True)
class DeltaEdit:
    """Edits that are weight deltas of some linear maps; empty for the unedited model."""

    deltas: Deltas = field(default_factory=dict)

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens with every row's own deltas in place."""
        return model.suffix(state, deltas=self.deltas, edit_index=rows.edit_index, at=at)

    def after(self, earlier: DeltaEdit | None) -> DeltaEdit:
        """The sum of the deltas; those of a trained editor without their graphs."""
        sums = {} if earlier is None else dict(earlier.deltas)
        for site, graph in self.deltas.items():
            delta = graph.detach()
            sums[site] = join_deltas(sums[site], delta) if site in sums else delta
        return DeltaEdit(sums)

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """The deltas, in place on the base model."""
        return model.deltas_in_place(self.deltas)
