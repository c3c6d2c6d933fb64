"""The rows that teach the edits of a turn, with the states that they enter the edited layers in.

What all edits leave as it is runs once where there is room: the first parts are read ahead and
kept, up to a share of the memory budget; the others are made anew each time a method reads them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from models.editable import PrefixState
from models.rows import EditBatch

Part = tuple[EditBatch, PrefixState]


class TeachingRows:
    """Reads the parts of a turn, any number of times.

    Args:
        served: begins to serve the parts anew, from the number of one on; without their states.
        entered: a part on the model's device, with its state.
        room: bytes of parts that may be kept.
    """

    def __init__(
        self,
        served: Callable[[int], Iterable[EditBatch]],
        entered: Callable[[EditBatch], Part],
        room: int,
    ) -> None:
        self._served, self._entered = served, entered
        self._kept: list[Part] = []
        self._is_whole = False
        self._read_ahead(room)

    def __call__(self) -> Iterator[Part]:
        """All parts, in their order."""
        yield from self._kept
        if not self._is_whole:
            yield from map(self._entered, self._served(len(self._kept)))

    def _read_ahead(self, room: int) -> None:
        for batch in self._served(0):
            part = self._entered(batch)
            room -= bytes_of(part)
            if room < 0:
                return
            self._kept.append(part)
        self._is_whole = True


def bytes_of(part: Part) -> int:
    """Bytes of a part: its pictures and its state."""
    batch, state = part
    pictures = [batch.rows.pixel_values, batch.rows.features]
    return state.nbytes + sum(tensor.nbytes for tensor in pictures if tensor is not None)
