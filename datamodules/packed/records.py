"""Records of a data set: one row, one `Record`, with the names of its pictures in their places."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from datamodules.forms import Reading
from datamodules.json_file import Element
from datamodules.left_out import OnError
from datamodules.packed.columns import Columns
from datamodules.packed.folder import parquet_files
from datamodules.records import Record
from datamodules.split_files import FORM
from errors import DataError, some_of

_CLOSE = 0.8  # likeness of two names, one of which is a slip of the other


def read_rows(root: Path, split: str, columns: Columns, on_error: OnError) -> Reading:
    """The records of a split.

    Args:
        root: the folder of the data set, for messages.
        split: its name, for messages.
        columns: its rows.
        on_error: whether a row that is no record is an error, or left out.

    Raises:
        DataError: with `on_error=error`, a row is no record.
    """
    where = f"the {split} split of the data set {root}"
    elements = (
        (Element(value, None), f"row {number} of {where}")
        for number, value in enumerate(columns.values())
    )
    return Reading.of_elements(elements, FORM, on_error, "tmke")


def check_columns(root: Path) -> None:
    """Refuses a data set without a column that every record has, or with one under another name.

    Only the ends of its files are read.

    Raises:
        DataError: names the column, and one that may be meant by it; or a file cannot be read.
    """
    for file in parquet_files(root):
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowException, OSError) as error:
            said = " ".join(str(error).split())
            raise DataError(
                f"{file} is no Parquet file that can be read ({said}). Fetch it again."
            ) from error
        _check_names(names, file)


def _check_names(names: list[str], where: Path) -> None:
    absent = [name for name in Record.model_fields if name not in names]
    unknown = [name for name in names if name not in Record.model_fields]
    for name in absent:
        if close := get_close_matches(name, unknown, n=1, cutoff=_CLOSE):
            raise DataError(
                f"{where} has no column {name!r}, and a column {close[0]!r}. Rename it to {name!r} "
                "if that is what it holds, or take it out; docs/data.md lists the fields."
            )
        if Record.model_fields[name].is_required():
            raise DataError(
                f"{where} has no column {name!r}, without which there is no record; its columns "
                f"are {some_of(names, 12)}. docs/data.md lists the fields; files of a benchmark "
                "in its own form are read by its own source, data=NAME data.files=[FILE.parquet]."
            )
