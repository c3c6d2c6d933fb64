"""What an editor is: from a batch of edits to a value that answers rows as the edited models would.

An edit is data, not a copy of the model. `Editor.edit` looks at B independent single edits and
returns one value for all of them; the value answers any rows of the batch, each row under its own
edit, and leaves no trace in the base weights. Adding an editor means one folder with a class that
follows this protocol, its options (`config.py`) and one YAML file: docs/add-an-editor.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from datamodules.records import Record
from datamodules.tokenisation import PromptEncoder
from models.deltas import Deltas
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows


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
    """A method of single knowledge editing."""

    name: str

    def first_layer(self, model: EditableModel) -> int:
        """The lowest decoder layer that an edit can change; everything below is shared."""
        ...

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> Edit:
        """Makes the edits of a batch.

        Args:
            model: the base model, never changed.
            batch: the edits; `batch.edit_rows` are the rows that teach them.
            state: the base model's state for all rows of the batch, entering `first_layer`.

        Returns:
            The edits as one value.
        """
        ...


@runtime_checkable
class Reporting(Protocol):
    """An editor that has more to tell of a run than its scores."""

    def report(self) -> dict[str, float]:
        """Numbers for the result's `editor_report`: means over the edits that were made so far."""
        ...


@runtime_checkable
class Scoped(Protocol):
    """Edits that decide for each question whether it is about them."""

    def scope_probabilities(self, rows: Rows) -> Tensor:
        """How sure they are that it is: (R,)."""
        ...


@dataclass(frozen=True)
class Setting:
    """What a run knows besides the base model; every `build(options, model, setting)` gets it.

    Attributes:
        encoder: the run's one prompt function.
        training: the records of the training split, for editors that show examples.
    """

    encoder: PromptEncoder
    training: Sequence[Record] = ()


@dataclass(frozen=True)
class DeltaEdit:
    """Edits that are weight deltas of some linear maps; empty for the unedited model.

    Attributes:
        deltas: one delta per edited site.
    """

    deltas: Deltas = field(default_factory=dict)

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens with every row's own deltas in place."""
        return model.suffix(state, deltas=self.deltas, edit_index=rows.edit_index, at=at)
