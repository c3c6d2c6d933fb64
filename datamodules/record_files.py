"""Benchmarks that are files of records: which files, each record through its model, the splits.

The files named by `data.files` are the test set. Training needs files of its own
(`data.train_files`); a share of their subjects becomes the validation split, so that no test record
ever chooses a checkpoint. What differs between benchmarks is their `Form`.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path

from datamodules.forms import Form, Reading
from datamodules.json_file import SUFFIXES
from datamodules.left_out import OnError
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
from results.files import EDITS, RUN_FILES


class RecordFileOptions(DataOptions):
    """Keys of the sources that read such files."""

    root: TypedPath
    files: Files
    train_files: Files

    def problems(self, command: str) -> list[str]:
        """The folder has to be there, and training needs files of its own."""
        problems = missing_root(self.root)
        if command == "train" and not self.train_files and self.train is None:
            problems.append(
                f"data.train_files is required to train on data={self.name}: name the files inside "
                "data.root that are not the test set, as data.train_files=[a.json,b.json]"
            )
        return problems

    @abstractmethod
    def form(self) -> Form:
        """How a record is written."""

    def pictures(self) -> Path | None:
        """The folder of the pictures; None: images/ inside root."""
        return None

    def read(self) -> RecordSource:
        """Reads the files."""
        return self._read(self.files or (), is_test=True)

    def read_training(self) -> RecordSource:
        """Reads the files to train on alone."""
        return self._read((), is_test=False)

    def _read(self, files: Sequence[str], *, is_test: bool) -> RecordSource:
        return read_record_files(
            Path(self.root),
            self.form(),
            name=self.name,
            files=files,
            train_files=self.train_files or (),
            image_root=self.pictures(),
            seed=self.seed,
            filter_known=self.filter_known,
            on_error=self.on_error,
            is_test=is_test,
            allow_overlap=self.allow_overlap,
            entity_folders=self.entity_folders,
            **self.prompts(),
        )

    def prompts(self) -> dict[str, bool]:
        """`plain_locality` and `cloze` of the source, where they are not false."""
        return {}


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
    is_test: bool = True,
    allow_overlap: bool = False,
    entity_folders: bool = False,
) -> RecordSource:
    """Reads a benchmark's files.

    Args:
        root: the folder with the files.
        form: how a record is written.
        name: the data set's name in results.
        files: names of the test files in it; default: every *.json, *.jsonl and *.parquet that is
            not a train file and not hidden.
        train_files: names of the files to train on.
        image_root: the pictures' folder; default: `root`/images.
        seed: draws the validation subjects out of the training ones.
        plain_locality: as in `RecordSource`.
        cloze: as in `RecordSource`.
        filter_known: keep only edits of facts that the unedited model knows, and by what.
        on_error: whether a record that breaks the schema, or is a copy, is an error or left out.
        is_test: whether test files are read; no: the files to train on alone.
        allow_overlap: as in `RecordSource`.
        entity_folders: as in `RecordSource`.

    Raises:
        DataError: a folder, file, record or field is missing or broken, or a file is named twice.
    """
    if (problem := folder_problem(root)) is not None:
        raise DataError(f"data.root is {str(root)!r}, and {problem}.")
    names = _test_files(root, files, train_files, form) if is_test else []
    test, train = (
        Reading.of([root / file for file in files], form, on_error, name)
        for files in (names, train_files)
    )
    parts: dict[Split, Reading] = {"test": test}
    parts["train"], parts["val"] = train.split(seed)
    parts = {split: part.completed(form, seed) for split, part in parts.items()}
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
        allow_overlap=allow_overlap,
        entity_folders=entity_folders,
    )
    source.check_disjoint()
    return source


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
        and not (holds_result and path.name in RUN_FILES)  # of a run whose output_dir this is
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
