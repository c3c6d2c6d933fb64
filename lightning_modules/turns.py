"""Which edits each update makes, and which of them contradict each other."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

from datamodules.contradicted import superseded
from datamodules.datamodule import EditDataModule
from datamodules.records import Record
from errors import ConfigError
from results.folder import BATCH

log = logging.getLogger(__name__)
_NAMED = 5  # edits that a message names


def turns_of(protocol: str, points: Sequence[int], turn: int | None) -> tuple[range, ...]:
    """The edits of each update, in the order in which they are made.

    An update that begins with edit 0 is made on the unedited model, every other on top of those
    before it.

    Args:
        protocol: "sequential" or "batch".
        points: numbers of edits in place, ascending.
        turn: edits of an update of a sequence; the last one may have fewer.

    >>> turns_of("sequential", [2, 5], 2)
    (range(0, 2), range(2, 4), range(4, 5))
    >>> turns_of("batch", [2, 5], None)
    (range(0, 2), range(0, 5))
    """
    if protocol == BATCH:
        return tuple(range(n) for n in points)
    last, size = points[-1], turn or 1
    return tuple(range(start, min(start + size, last)) for start in range(0, last, size))


def check_points(points: Sequence[int], data: EditDataModule) -> None:
    """Refuses points of the curve that the test split has too few edits for.

    Args:
        points: numbers of edits in place, ascending.
        data: set up, so that facts which the unedited model does not know are left out already.

    Raises:
        ConfigError: naming both numbers.
    """
    known = data.known.get("test")
    of = "" if known is None else f" of {known.candidates} whose facts the unedited model knows"
    check_number(points, data.n_edits("test"), data.source.name, of=of)


def check_number(points: Sequence[int], n_edits: int, data: str, *, of: str = "") -> None:
    """Refuses points of the curve that there are too few edits for.

    Args:
        points: numbers of edits in place, ascending.
        n_edits: of the test split.
        data: its name.
        of: how that number came about.

    Raises:
        ConfigError: naming both numbers.
    """
    if n_edits < points[-1]:
        raise ConfigError(
            f"protocol.n={','.join(map(str, points))} makes {points[-1]} edits, and the test split "
            f"of data={data} has {n_edits}{of}. Give no number above {n_edits}, or more data."
        )


@dataclass(frozen=True)
class Contradictions:
    """Edits that a later edit of their own update takes back.

    Attributes:
        of_turns: for each update edit -> the next one there of the same fact with another answer.
    """

    of_turns: tuple[Mapping[int, int], ...]

    @classmethod
    def of(cls, records: Sequence[Record], turns: Sequence[range]) -> Contradictions:
        """Those of some edits.

        Args:
            records: the edits, by their number.
            turns: the edits of each update.
        """
        later = superseded(records)
        return cls(
            tuple(
                {edit: by for edit, by in later.items() if edit in turn and by in turn}
                for turn in turns
            )
        )

    @property
    def all(self) -> dict[int, int]:
        """Those of all updates together."""
        return {edit: by for of_turn in self.of_turns for edit, by in of_turn.items()}

    def refuse(self, records: Sequence[Record], place: Callable[[int], str]) -> None:
        """Refuses them all: `protocol.contradictions=error`.

        Args:
            records: the edits, by their number.
            place: number of an edit -> where its record stands.

        Raises:
            ConfigError: there are some; names the first ones.
        """
        if not self.all:
            return
        pairs = [
            f"edit {edit} ({place(edit)}, {records[edit].about!r}: "
            f"{records[edit].knowledge_edit.answer_new!r}) and edit {by} ({place(by)}: "
            f"{records[by].knowledge_edit.answer_new!r})"
            for edit, by in islice(self.all.items(), _NAMED)
        ]
        more = ", among others" if len(self.all) > len(pairs) else ""
        raise ConfigError(
            f"protocol.contradictions=error: {len(self.all)} of {len(records)} edits are taken "
            "back by a later one of their own update, which gives the same fact another answer: "
            f"{'; '.join(pairs)}{more}. Use protocol.contradictions=last, which teaches the later "
            "one alone, or smaller updates."
        )

    def log(self, records: Sequence[Record]) -> None:
        """Says which edits are not taught: `protocol.contradictions=last`."""
        if not self.all:
            return
        pairs = [
            f"edit {edit} ({records[edit].about}) by edit {by}"
            for edit, by in islice(self.all.items(), _NAMED)
        ]
        more = "; not_taught in summary.json has all" if len(self.all) > len(pairs) else ""
        log.info(
            "protocol.contradictions=last: %d of %d edits are not taught, since a later one of "
            "their update gives the same fact another answer: %s%s",
            len(self.all), len(records), "; ".join(pairs), more,
        )  # fmt: skip
