"""Records that cannot be used: an error each, or left out and noted (`data.on_error`)."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

from datamodules.records import Record
from errors import DataError

OnError = Literal["error", "skip"]
SHOWN = 3  # records that a message names


class LeftOut(NamedTuple):
    """A record that is not used.

    Attributes:
        record: where it stands, `record 3 of a.json`.
        subject: None where it could not be read.
        reason: what is wrong with it.
    """

    record: str
    subject: str | None
    reason: str

    def __str__(self) -> str:
        about = "" if self.subject is None else f" (subject {self.subject!r})"
        return f"{self.record}{about}: {self.reason.rstrip('.')}"


def first_of(left_out: Sequence[LeftOut]) -> str:
    """The first few in one line, and how many more there are."""
    more = len(left_out) - SHOWN
    return "; ".join(map(str, left_out[:SHOWN])) + (f"; and {more} more" if more > 0 else "")


def nothing_left(where: str, left_out: Sequence[LeftOut]) -> DataError:
    """The error where every record of a split was left out."""
    return DataError(
        f"data.on_error=skip has left out all {len(left_out)} records of {where}: "
        f"{first_of(left_out)}. Correct them, or name other data."
    )


def copies(records: Sequence[Record], places: Sequence[str]) -> dict[int, LeftOut]:
    """Records that are the same as earlier ones; each would count twice.

    Args:
        records: those of a split.
        places: where each of them stands.

    Returns:
        number -> the record, with the place of the one that it repeats.
    """
    first: dict[str, int] = {}
    found: dict[int, LeftOut] = {}
    for number, record in enumerate(records):
        content = unicodedata.normalize("NFC", record.model_dump_json())
        earlier = first.setdefault(content, number)
        if earlier != number:
            what = f"it is the same as {places[earlier]}"
            found[number] = LeftOut(places[number], record.subject, what)
    return found
