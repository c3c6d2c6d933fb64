"""Benchmarks that are files of records: which files, each record through its model, the splits.

The files named by `data.files` are the test set. Training needs files of its own
(`data.train_files`); a share of their subjects becomes the validation split, so that no test record
ever chooses a checkpoint. What differs between benchmarks is their `Form`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from datamodules.json_file import SUFFIXES, Element, read_list
from datamodules.left_out import LeftOut, OnError, copies
from datamodules.records import Record, field_errors, name_key
from datamodules.source import (
    SPLITS,
    DataOptions,
    FilterKnown,
    RecordSource,
    Split,
    folder_problem,
    missing_root,
)
from errors import DataError
from options import Files, TypedPath
from results.files import EDITS, SUMMARY

_VALIDATION_SHARE = 0.1


@dataclass(frozen=True)
class Form:
    """How the records of a benchmark are written.

    Attributes:
        name: of the schema in messages.
        record: what stands in a file -> the record; raises pydantic's ValidationError, whose
            places are fields of the file.
    """

    name: str
    record: Callable[[Any], Record]


class RecordFileOptions(DataOptions):
    """Keys of the sources that read such files."""

    root: TypedPath
    files: Files
    train_files: Files

    def problems(self, command: str) -> list[str]:
        """The folder has to be there, and training needs files of its own."""
        problems = missing_root(self.root)
        if command == "train" and not self.train_files:
            problems.append(
                f"data.train_files is required to train on data={self.name}: name the files inside "
                "data.root that are not the test set, as data.train_files=[a.json,b.json]"
            )
        return problems


def read_record_files(
    root: Path,
    form: Form,
    *,
    name: str,
    files: Sequence[str] = (),
    train_files: Sequence[str] = (),
    image_root: Path | None = None,
    seed: int = 0,
    plain_locality: bool = False,
    cloze: bool = False,
    filter_known: FilterKnown = "none",
    on_error: OnError = "error",
) -> RecordSource:
    """Reads a benchmark's files.

    Args:
        root: the folder with the files.
        form: how a record is written.
        name: the data set's name in results.
        files: names of the test files in it; default: every *.json and *.jsonl that is not a train
            file and not hidden.
        train_files: names of the files to train on.
        image_root: the pictures' folder; default: `root`/images.
        seed: draws the validation subjects out of the training ones.
        plain_locality: as in `RecordSource`.
        cloze: as in `RecordSource`.
        filter_known: keep only edits of facts that the unedited model knows, and by what.
        on_error: whether a record that breaks the schema, or is a copy, is an error or left out.

    Raises:
        DataError: a folder, file, record or field is missing or broken, or a file is named twice.
    """
    if (problem := folder_problem(root)) is not None:
        raise DataError(f"data.root is {str(root)!r}, and {problem}.")
    names = _test_files(root, files, train_files, form)
    test, train = (_Reading.of(root, each, form, on_error) for each in (names, train_files))
    parts: dict[Split, _Reading] = {"test": test}
    parts["train"], parts["val"] = train.split(seed)
    source = RecordSource(
        name=name,
        image_root=image_root or root / "images",
        splits={split: parts[split].records for split in SPLITS},
        plain_locality=plain_locality,
        cloze=cloze,
        filter_known=filter_known,
        absent=(
            f"Training files are named in data.train_files; the test files are {names}."
            if names
            else f"All files in {root} are named in data.train_files, and none is left to test."
        ),
        on_error=on_error,
        places={split: parts[split].places for split in SPLITS},
        left_out={split: parts[split].left_out for split in SPLITS},
    )
    source.check_disjoint()
    return source


@dataclass
class _Reading:
    """Records, where each of them stands, and those that cannot be used."""

    records: list[Record] = field(default_factory=list)
    places: list[str] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)

    @classmethod
    def of(cls, root: Path, names: Sequence[str], form: Form, on_error: OnError) -> _Reading:
        """The records of some files.

        Raises:
            DataError: a file is broken, or with `on_error=error` a record of it.
        """
        reading = cls()
        for name in names:
            for index, element in enumerate(read_list(root / name, "records")):
                place = _place(root / name, index, element)
                reading._add(element.value, place, form, on_error)
        if on_error == "error":  # then copies are one, too: `RecordSource.check_disjoint`
            return reading
        found = copies(reading.records, reading.places)
        kept = reading._only([n for n in range(len(reading.records)) if n not in found])
        kept.left_out = [*reading.left_out, *found.values()]
        return kept

    def _add(self, value: Any, place: str, form: Form, on_error: OnError) -> None:
        try:
            record = form.record(value)
        except ValidationError as error:
            mistakes = field_errors(error)
            if on_error == "error":
                raise DataError(
                    f"{place} breaks the {form.name} schema: {mistakes}. Correct the record; "
                    "docs/data.md lists the fields, and data.on_error=skip leaves such records out."
                ) from error
            subject = value.get("subject") if isinstance(value, dict) else None
            named = subject if isinstance(subject, str) else None
            why = f"it breaks the {form.name} schema: {mistakes}"
            self.left_out.append(LeftOut(place, named, why))
        else:
            self.records.append(record)
            self.places.append(place)

    def split(self, seed: int) -> tuple[_Reading, _Reading]:
        """What is trained on, and the share of subjects that is held out of it."""
        spelled: dict[str, str] = {}
        for record in self.records:
            key = name_key(record.subject)
            spelled[key] = min(record.subject, spelled.get(key, record.subject))
        subjects = sorted(spelled.values())
        random.Random(seed).shuffle(subjects)
        held_out = {name_key(s) for s in subjects[: round(len(subjects) * _VALIDATION_SHARE)]}
        is_val = [name_key(record.subject) in held_out for record in self.records]
        train, val = (self._only([n for n, v in enumerate(is_val) if v == kind]) for kind in (0, 1))
        train.left_out = self.left_out
        return train, val

    def _only(self, numbers: Sequence[int]) -> _Reading:
        return _Reading([self.records[n] for n in numbers], [self.places[n] for n in numbers])


def _test_files(
    root: Path, files: Sequence[str], train_files: Sequence[str], form: Form
) -> list[str]:
    """Names of the test files; none where all files of the folder are trained on.

    Raises:
        DataError: there is no file at all, or one is named twice.
    """
    training = _different_files(root, {"data.train_files": train_files})
    names = sorted(files) or _other_files(root, training)
    if not names and not train_files:
        raise DataError(
            f"data.root {root} holds no {' or '.join(f'*{suffix}' for suffix in SUFFIXES)} file "
            f"with {form.name} records. Point data.root at the benchmark's folder, or name the "
            "files in data.files."
        )
    _different_files(root, {"data.train_files": train_files, "data.files": names})
    return names


def _other_files(root: Path, training: Mapping[Hashable, str]) -> list[str]:
    """Names of the files in a folder that are read where none is named."""
    holds_result = os.path.isfile(root / EDITS)
    return sorted(
        path.name
        for path in root.iterdir()
        if path.suffix.lower() in SUFFIXES
        and not path.name.startswith(".")  # what macOS and editors leave behind
        and not os.path.isdir(path)
        and not (holds_result and path.name == SUMMARY)  # of a run whose output_dir this is
        and _identity(path) not in training
    )


def _different_files(root: Path, words: Mapping[str, Sequence[str]]) -> dict[Hashable, str]:
    """The files that some keys name.

    Raises:
        DataError: two words name one file, by any spelling of its path or by a link.
    """
    named: dict[Hashable, str] = {}
    for key, names in words.items():
        for name in names:
            identity, word = _identity(root / name), f"{name!r} of {key}"
            if identity in named:
                raise DataError(
                    f"{named[identity]} and {word} are one file, {os.path.realpath(root / name)}: "
                    "its records would count twice, or be trained on and tested. Leave one out."
                )
            named[identity] = word
    return named


def _identity(path: Path) -> Hashable:
    """Equal for two paths of one file."""
    try:
        found = path.stat()
    except OSError:  # which reading it will tell
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _place(file: Path, index: int, element: Element) -> str:
    line = "" if element.line is None else f" (line {element.line})"
    return f"record {index}{line} of {file}"
