"""Folders whose files are named after their split: `train.jsonl`, `validation.jsonl`, `test.jsonl`.

They hold records of the project's own form (`Record`), as JSON lines or as one list.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.forms import Form, Reading
from datamodules.json_file import JSON_SUFFIXES
from datamodules.left_out import OnError
from datamodules.packed.folder import NAMES
from datamodules.records import Record
from datamodules.renamed_fields import unread_fields
from datamodules.source import Split
from errors import DataError


def read_record(value: Any) -> Record:
    """A record of the project's own form, from what stands in a file.

    Raises:
        ValidationError: it breaks the schema.
        DataError: a field that looks misspelled would not be read.
    """
    record = Record.model_validate(value)
    if unread := unread_fields(value, Record):
        raise DataError(f"breaks the record schema: {'; '.join(unread)}")
    return record


FORM = Form("record", read_record)


def split_files(root: Path) -> dict[Split, Path]:
    """The file of each split that a folder has one for.

    Raises:
        DataError: it has several for one.
    """
    files: dict[Split, Path] = {}
    for split, names in NAMES.items():
        paths = [
            path
            for name in names
            for suffix in JSON_SUFFIXES
            if os.path.isfile(path := root / f"{name}{suffix}")
        ]
        if len(paths) > 1:
            raise DataError(
                f"data.root {root} holds {' and '.join(path.name for path in paths)}, and either "
                f"may be the {split} split. Leave one of them there."
            )
        if paths:
            files[split] = paths[0]
    return files


def read_splits(files: Mapping[Split, Path], on_error: OnError) -> dict[Split, Reading]:
    """The records of each split.

    Args:
        files: as of `split_files`.
        on_error: whether a record that cannot be used is an error, or left out.

    Raises:
        DataError: a file is broken, or with `on_error=error` a record of it.
    """
    # Records of data=tmke have this form, and what looks like one of them is no mistake.
    return {split: Reading.of([path], FORM, on_error, "tmke") for split, path in files.items()}
