"""What an edit of weights carries for the turns after it, in files beside its deltas.

AlphaEdit leaves the keys of earlier turns alone, UltraEdit goes on from their statistics; an edit
that was read from a folder is one to go on from as the one that was saved is.
"""

from __future__ import annotations

from pathlib import Path

from editing.card import KEYS, STATISTICS, Card
from editors.base import DeltaEdit
from editors.memit.editor import KeyedEdit
from editors.memit.files import load_keys, save_keys
from editors.ultraedit.editor import LifelongEdit
from editors.ultraedit.files import load_seen, save_statistics
from models.editable import EditableModel


def write_carried(edit: DeltaEdit, folder: Path, model: EditableModel) -> None:
    """Writes it; of most methods there is nothing.

    Args:
        edit: one edit (E = 1).
        folder: where its deltas are written.
        model: the base model.
    """
    if isinstance(edit, KeyedEdit):
        save_keys(folder / KEYS, edit.keys)
    elif isinstance(edit, LifelongEdit):
        save_statistics(folder / STATISTICS, edit.seen, model, {})


def with_carried(edit: DeltaEdit, folder: Path, card: Card, model: EditableModel) -> DeltaEdit:
    """The edit as it was when it was saved.

    Args:
        edit: its deltas.
        folder: where they lie.
        card: says which files there are.
        model: the base model.

    Raises:
        ModelError: a file is damaged, or of other maps than the model has.
    """
    if KEYS in card.sha256:
        return KeyedEdit(edit.deltas, load_keys(folder / KEYS, model))
    if STATISTICS in card.sha256:
        return LifelongEdit(edit.deltas, load_seen(folder / STATISTICS, model))
    return edit
