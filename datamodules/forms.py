"""How the records of a benchmark are written, and reading files of them.

Each value of a file goes through the benchmark's `Form` into a `Record`, one at a time, and the
records lie outside the memory from then on (`RecordTable`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from datamodules.json_file import Element, elements
from datamodules.left_out import Kind, LeftOut, NotJoinedError, OnError, copies
from datamodules.record_table import RecordTable, RecordWriter
from datamodules.records import Record, field_errors, is_blank, name_key
from datamodules.source import look_alike
from errors import DataError

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Form:
    """How the records of a benchmark are written.

    Attributes:
        name: of the schema in messages.
        record: what stands in a file -> the record; raises pydantic's ValidationError, whose
            places are fields of the file, or DataError.
        id_field: the field that tells records apart, of files that have one.
        complete: the records of a split and a seed -> the same records in their order, with what is
            drawn of the others.
    """

    name: str
    record: Callable[[Any], Record]
    id_field: str | None = None
    complete: Callable[[Sequence[Record], int], Sequence[Record]] | None = None


@dataclass
class Reading:
    """Records, where each of them stands, and those that cannot be used."""

    records: Sequence[Record] = ()
    places: Sequence[str] = ()
    left_out: Sequence[LeftOut] = ()

    @classmethod
    def of(cls, paths: Sequence[Path], form: Form, on_error: OnError, source: str) -> Reading:
        """The records of some files.

        Args:
            paths: theirs, in order.
            form: how they are written.
            on_error: whether a record that cannot be used is an error, or left out.
            source: the name that the files are read under.

        Raises:
            DataError: a file is broken, or with `on_error=error` a record of it.
        """
        placed = (
            (element, _place(path, index, element))
            for path in paths
            for index, element in enumerate(
                elements(path, "records", broken_lines=on_error == "skip")
            )
        )
        return cls.of_elements(placed, form, on_error, source)

    @classmethod
    def of_elements(
        cls, placed: Iterable[tuple[Element, str]], form: Form, on_error: OnError, source: str
    ) -> Reading:
        """The records of some values, each with the place where it stands; else as `of`.

        Raises:
            DataError: with `on_error=error`, a value is no record.
        """
        with _Reader(form, on_error, source) as reader:
            for element, place in placed:
                reader.add(element, place)
            reading = reader.reading()
        if on_error == "error":  # copies among them are told by `check_disjoint`
            return reading
        found = copies(reading.records, reading.places)
        kept = reading._only([n for n in range(len(reading.records)) if n not in found])
        kept.left_out = [*reading.left_out, *found.values()]
        return kept

    def completed(self, form: Form, seed: int) -> Reading:
        """The same with what the form draws of other records."""
        if form.complete is None:
            return self
        return replace(self, records=form.complete(self.records, seed))

    def split(self, seed: int) -> tuple[Reading, Reading]:
        """What is trained on, and the share of subjects that is held out of it."""
        spelled: dict[str, str] = {}
        for record in self.records:
            spelled[record.key] = min(record.about, spelled.get(record.key, record.about))
        subjects = sorted(spelled.values())
        random.Random(seed).shuffle(subjects)
        held_out = {name_key(s) for s in subjects[: round(len(subjects) * _VALIDATION_SHARE)]}
        is_val = [record.key in held_out for record in self.records]
        train, val = (self._only([n for n, v in enumerate(is_val) if v == kind]) for kind in (0, 1))
        train.left_out = self.left_out
        return train, val

    def _only(self, numbers: Sequence[int]) -> Reading:
        records = self.records
        assert isinstance(records, RecordTable)
        return Reading(records.take(numbers), [self.places[n] for n in numbers])


class _Reader:
    """Makes records of what stands in files, or says why there is none.

    Args:
        form: how they are written.
        on_error: whether that is an error, or the record is left out.
        source: the name that the files are read under.
    """

    def __init__(self, form: Form, on_error: OnError, source: str) -> None:
        self._form, self._on_error, self._source = form, on_error, source
        self._ids: dict[str, str] = {}
        self._records, self._places = RecordWriter(), list[str]()
        self._left_out: list[LeftOut] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._records.close()

    def reading(self) -> Reading:
        """What was read."""
        return Reading(self._records.table(), self._places, self._left_out)

    def add(self, element: Element, place: str) -> None:
        """Adds a record to those of the files, or to those left out.

        Raises:
            DataError: with `on_error=error`, what is wrong with it.
        """
        value = element.value
        try:
            record = self._record(element, place)
        except NotJoinedError as error:
            self._left_out.append(LeftOut(place, error.subject, str(error), "not joined"))
        except DataError as error:
            if self._on_error == "error":
                raise DataError(
                    f"{place} {error}. Correct the record; docs/data.md lists the fields, and "
                    "data.on_error=skip leaves such records out."
                ) from error
            subject = value.get("subject") if isinstance(value, dict) else None
            named = subject if isinstance(subject, str) else None
            kind: Kind = "empty" if _lacks_text(error.__cause__) else "unusable"
            self._left_out.append(LeftOut(place, named, f"it {error}", kind))
        else:
            self._records.add(record)
            self._places.append(place)

    def _record(self, element: Element, place: str) -> Record:
        """The record of an element.

        Raises:
            DataError: there is none; a clause that goes on after its place.
        """
        if element.mistake is not None:
            raise DataError(f"is no JSON: {element.mistake}")
        other = look_alike(element.value)
        if other not in (None, self._source):
            raise DataError(
                f"breaks the {self._form.name} schema: this looks like a record of data={other}, "
                f"so use data={other} for its file"
            )
        try:
            record = self._form.record(element.value)
        except ValidationError as error:
            raise DataError(
                f"breaks the {self._form.name} schema: {field_errors(error)}"
            ) from error
        self._check_id(element.value, place)
        return record

    def _check_id(self, value: Mapping[str, object], place: str) -> None:
        field = self._form.id_field
        if field is None or field not in value:
            return
        earlier = self._ids.setdefault(repr(value[field]), place)
        if earlier != place:
            raise DataError(f"has the {field} of {earlier}, {value[field]!r}")


def _lacks_text(error: BaseException | None) -> bool:
    """Whether a record breaks the schema by a text that holds nothing."""
    return isinstance(error, ValidationError) and any(
        isinstance(mistake["input"], str) and is_blank(mistake["input"])
        for mistake in error.errors()
    )


def _place(file: Path, index: int, element: Element) -> str:
    line = "" if element.line is None else f" (line {element.line})"
    return f"record {index}{line} of {file}"
