"""The edits of one update: many facts, taught together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from models.editable import PrefixState
from models.rows import EditBatch


@dataclass(frozen=True)
class Turn:
    """Edits that are made in one update, in parts that fit into memory one at a time.

    What comes before `Editor.first_layer` no edit changes, so the states hold whatever is in place.

    Attributes:
        n_edits: how many they are.
        read: begins to read them anew: parts in the order of the edits, each the rows that teach
            some of them and nothing else, on the model's device, with the base model's state for
            these rows entering `Editor.first_layer`.
    """

    n_edits: int
    read: Callable[[], Iterable[tuple[EditBatch, PrefixState]]]

    def __len__(self) -> int:
        return self.n_edits

    def __iter__(self) -> Iterator[tuple[EditBatch, PrefixState]]:
        return iter(self.read())
