"""data=tmke: the benchmark's own files, lists of records in the TMKE authors' schema.

The files named by `data.files` are the test set. Training needs files of its own
(`data.train_files`); a share of their subjects becomes the validation split, so that no test record
ever chooses a checkpoint.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from datamodules.json_file import Element, read_list
from datamodules.records import Record, TmkeRecord, field_errors
from datamodules.source import DataOptions, RecordSource, missing_root
from errors import DataError
from options import Files, TypedText

_VALIDATION_SHARE = 0.1


class TmkeData(DataOptions):
    """The benchmark's own files; configs/data/tmke.yaml explains the keys."""

    root: TypedText
    files: Files
    train_files: Files
    image_root: TypedText | None

    def problems(self, command: str) -> list[str]:
        """The folder has to be there, and training needs files of its own."""
        problems = missing_root(self.root)
        if command == "train" and not self.train_files:
            problems.append(
                "data.train_files is required to train on data=tmke: name the files inside "
                "data.root that are not the test set, as data.train_files=[a.json,b.json]"
            )
        return problems

    def read(self) -> RecordSource:
        """Reads the files."""
        return read_tmke(
            Path(self.root),
            files=self.files or (),
            train_files=self.train_files or (),
            image_root=Path(self.image_root) if self.image_root else None,
            seed=self.seed,
            filter_known=self.filter_known,
        )


def read_tmke(
    root: Path,
    *,
    files: Sequence[str] = (),
    train_files: Sequence[str] = (),
    image_root: Path | None = None,
    seed: int = 0,
    filter_known: bool = False,
) -> RecordSource:
    """Reads the benchmark's files.

    Args:
        root: the folder with the files.
        files: names of the test files in it; default: every *.json that is not a train file.
        train_files: names of the files to train on.
        image_root: the pictures' folder; default: `root`/images.
        seed: draws the validation subjects out of the training ones.
        filter_known: keep only edits of facts that the unedited model knows.

    Raises:
        DataError: a folder, file, record or field is missing or broken.
    """
    if not root.is_dir():
        raise DataError(f"data.root is {str(root)!r}, and there is no such folder.")
    names = sorted(files) or sorted(
        path.name for path in root.glob("*.json") if path.name not in train_files
    )
    if not names:
        raise DataError(
            f"data.root {root} holds no *.json file with TMKE records. Point data.root at the "
            "benchmark's folder, or name the files in data.files."
        )
    test = [record for name in names for record in read_records(root / name)]
    train, val = _split([r for name in train_files for r in read_records(root / name)], seed)
    source = RecordSource(
        name="tmke",
        image_root=image_root or root / "images",
        splits={"train": train, "val": val, "test": test},
        plain_locality=True,
        filter_known=filter_known,
        absent=f"Training files are named in data.train_files; the test files are {names}.",
    )
    source.check_disjoint()
    return source


def read_records(path: Path) -> list[TmkeRecord]:
    """The records of one file.

    Raises:
        DataError: the file is missing, is not JSON, is not a list, or a record breaks the schema;
            file, line or index, and field are named.
    """
    return [
        _record(path, index, element) for index, element in enumerate(read_list(path, "records"))
    ]


def _record(path: Path, index: int, element: Element) -> TmkeRecord:
    try:
        return TmkeRecord.model_validate(element.value)
    except ValidationError as error:
        line = "" if element.line is None else f" (line {element.line})"
        raise DataError(
            f"record {index}{line} of {path} breaks the TMKE schema: {field_errors(error)}. "
            "Correct the record; docs/data.md lists the fields."
        ) from error


def _split(records: Sequence[Record], seed: int) -> tuple[list[Record], list[Record]]:
    subjects = sorted({record.subject for record in records})
    random.Random(seed).shuffle(subjects)
    held_out = set(subjects[: round(len(subjects) * _VALIDATION_SHARE)])
    return (
        [record for record in records if record.subject not in held_out],
        [record for record in records if record.subject in held_out],
    )


SOURCE = TmkeData
