"""Records that cannot be used: an error each, or left out and noted (`data.on_error`)."""

from __future__ import annotations

import hashlib
import logging
import unicodedata
from collections.abc import Sequence
from typing import Literal, NamedTuple

from datamodules.record_table import contents
from datamodules.records import Record
from errors import DataError
from results.log_file import OFF_SCREEN

log = logging.getLogger(__name__)
OnError = Literal["error", "skip"]
Kind = Literal["unusable", "empty", "copy", "not joined"]
SHOWN = 3  # records that a message names
_LONGEST = 240  # characters of each there


class NotJoinedError(Exception):
    """A record that a source's own rule leaves out, whatever `data.on_error` says.

    Args:
        reason: what it lacks.
        subject: of the record.
    """

    def __init__(self, reason: str, subject: str) -> None:
        super().__init__(reason)
        self.subject = subject


class LeftOut(NamedTuple):
    """A record that is not used.

    Attributes:
        record: where it stands, `record 3 of a.json`.
        subject: None where it could not be read.
        reason: what is wrong with it.
        kind: of that.
    """

    record: str
    subject: str | None
    reason: str
    kind: Kind = "unusable"

    def __str__(self) -> str:
        about = "" if self.subject is None else f" (subject {self.subject!r})"
        return f"{self.record}{about}: {self.reason.rstrip('.')}"

    @property
    def in_short(self) -> str:
        """The beginning of it, for a message."""
        text = str(self)
        return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def first_of(left_out: Sequence[LeftOut]) -> str:
    """The first few in one line, and how many more there are."""
    more = len(left_out) - SHOWN
    return "; ".join(record.in_short for record in left_out[:SHOWN]) + (
        f"; and {more} more" if more > 0 else ""
    )


def log_left_out(split: str, left_out: Sequence[LeftOut], on_error: OnError = "skip") -> None:
    """Says how many records of a split are left out, with the first few; log.txt lists them all."""
    if not left_out:
        return
    records = "1 record" if len(left_out) == 1 else f"{len(left_out)} records"
    by = "data.on_error=skip" if on_error == "skip" else "the source's own rule"
    log.warning("%s split: %s left out (%s): %s", split, records, by, first_of(left_out))
    for record in left_out:
        log.info("left out: %s", record, extra=OFF_SCREEN)


def log_idle(split: str, records: Sequence[Record]) -> None:
    """Says which edits change nothing: they count as any, and score as if they were made."""
    idle = [record.about for record in records if record.changes_nothing]
    if idle:
        log.warning(
            "%s split: %d of %d edits change nothing, as their answer_new is answer_true: %s%s",
            split, len(idle), len(records), ", ".join(idle[:SHOWN]),
            ", ..." if len(idle) > SHOWN else "",
        )  # fmt: skip


def nothing_left(where: str, left_out: Sequence[LeftOut], on_error: OnError = "skip") -> DataError:
    """The error where every record of a split was left out."""
    by = "data.on_error=skip" if on_error == "skip" else "the source's own rule"
    return DataError(
        f"{by} has left out all {len(left_out)} records of {where}: "
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
    first: dict[bytes, int] = {}
    found: dict[int, LeftOut] = {}
    for number, content in enumerate(contents(records)):
        composed = unicodedata.normalize("NFC", content.decode())
        earlier = first.setdefault(hashlib.blake2b(composed.encode()).digest(), number)
        if earlier != number:
            what = f"it is the same as {places[earlier]}"
            found[number] = LeftOut(places[number], records[number].subject, what, "copy")
    return found
