"""The unedited model: what every editor is compared with."""

from __future__ import annotations

from editors.base import DeltaEdit, EditorInputs, Lasting
from editors.none.config import NoneOptions
from editors.turn import Turn
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch


class Unedited:
    """Edits nothing."""

    name = "none"

    def first_layer(self, model: EditableModel) -> int:
        """The last layer: nothing is edited, so as much as possible is shared."""
        return model.n_layers - 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """No deltas."""
        return DeltaEdit()

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> DeltaEdit:
        """No deltas."""
        return DeltaEdit()


def build(options: NoneOptions, model: EditableModel, inputs: EditorInputs) -> Unedited:
    """The editor; there is nothing to choose."""
    return Unedited()
