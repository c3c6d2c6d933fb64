"""Turns of many edits for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from editors.base import Editor
from editors.turn import Turn
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch


def turn_of(model: EditableModel, editor: Editor, parts: Sequence[EditBatch]) -> Turn:
    """The edits of some batches as one turn, which reads one batch after the other."""

    def read() -> Iterator[tuple[EditBatch, PrefixState]]:
        for part in parts:
            batch = replace(part, rows=model.encode_pictures(part.rows)).teaching()
            yield batch, model.prefix(batch.rows, editor.first_layer(model), packed=True)

    return Turn(sum(map(len, parts)), read)
