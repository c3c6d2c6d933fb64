"""The facts that records are made from: a table with one edit a row, as CSV, JSON lines or Parquet.

    subject        The French Lieutenant's Woman
    question       Who is the author of The French Lieutenant's Woman?
    answer_true    John Fowles
    answer_new     Soren Kierkegaard
    image          woman_1.jpg               all columns but the first four may be missing or empty

A second fact leads to the one-hop question: `hop_question` asks something of the new answer ("Where
was Soren Kierkegaard born?"), and `hop_answer` is true of it. Every mistake names the file, the row
and the column.
"""

from __future__ import annotations

import csv
import difflib
import hashlib
import io
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from datamodules.json_file import SUFFIXES, read_list
from datamodules.left_out import LeftOut, OnError, first_of
from datamodules.mentions import mentions
from datamodules.records import Picture, Text, field_errors, name_key
from errors import DataError

CSV, PARQUET = ".csv", ".parquet"
KINDS = (CSV, *SUFFIXES, PARQUET)
REQUIRED = ("subject", "question", "answer_true", "answer_new")
# What other benchmarks and their tools call a column; the names are too far apart for difflib.
_ELSEWHERE = {
    "entity": "subject", "prompt": "question", "src": "question", "input": "question",
    "ground_truth": "answer_true", "pred": "answer_true", "target_true": "answer_true",
    "answer_old": "answer_true", "target_new": "answer_new", "alt": "answer_new",
    "target": "answer_new", "picture": "image", "image_rephrased": "image_rephrase",
    "type": "entity_type", "subject_type": "entity_type", "property": "relation",
    "case_id": "id", "loc": "locality_question", "loc_ans": "locality_answer",
}  # fmt: skip
# Columns that mean nothing without each other.
_TOGETHER = (
    ("hop_question", "hop_answer"),
    ("locality_question", "locality_answer"),
    ("image_locality_question", "image_locality_answer", "locality_image"),
)


class Row(BaseModel):
    """One edit, as a user writes it down. Pictures are paths relative to the pictures' folder.

    Attributes:
        subject: named in `question` as it stands there.
        answer_true: what is true today.
        answer_new: what the edit teaches in its place.
        image: a picture of the subject, which a multimodal edit sees.
        image_rephrase: another picture of the subject.
        relation: a name for what is asked, such as `author`.
        entity_type: what the subject is, in the words of a question ("the novel in the image");
            a language model is asked for it where it is missing.
        hop_question: a second fact: a question that names `answer_new`.
        hop_answer: its answer.
        hop_answer_true: what the one-hop question's answer was before the edit.
        locality_question, locality_answer: a question that has nothing to do with the fact.
        image_locality_question, image_locality_answer, locality_image: the same about a picture.
        id: tells rows apart in journals, decisions and records; by default it is made of the
            subject, the question and the new answer, so that it does not depend on the order.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Text
    subject: Text
    question: Text
    answer_true: Text
    answer_new: Text
    image: Picture | None = None
    image_rephrase: Picture | None = None
    relation: Text | None = None
    entity_type: Text | None = None
    hop_question: Text | None = None
    hop_answer: Text | None = None
    hop_answer_true: Text | None = None
    locality_question: Text | None = None
    locality_answer: Text | None = None
    image_locality_question: Text | None = None
    image_locality_answer: Text | None = None
    locality_image: Picture | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_id(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        name = value.get("id")
        if name is None:
            name = _digest([value.get(column) for column in _FACT])
        return {**value, "id": str(name) if isinstance(name, int) else name}

    @model_validator(mode="after")
    def _makes_sense(self) -> Self:
        if not mentions(self.question, self.subject):
            raise ValueError(
                f"question does not name the subject {self.subject!r}, so no question about a "
                "picture can be made of it"
            )
        if name_key(self.answer_new) == name_key(self.answer_true):
            raise ValueError("answer_new is the same as answer_true: nothing would be edited")
        for names in _TOGETHER:
            absent = [name for name in names if getattr(self, name) is None]
            if 0 < len(absent) < len(names):
                raise ValueError(
                    f"{' and '.join(absent)} missing: {', '.join(names)} stand together"
                )
        if self.hop_answer_true is not None and self.hop_question is None:
            raise ValueError("hop_answer_true stands without hop_question and hop_answer")
        if self.hop_question is not None and not mentions(self.hop_question, self.answer_new):
            raise ValueError(
                f"hop_question does not name answer_new ({self.answer_new!r}): the second fact is "
                "one about the new answer"
            )
        return self

    @property
    def pictures(self) -> list[str]:
        """Names of its pictures."""
        names = (self.image, self.image_rephrase, self.locality_image)
        return [name for name in names if name is not None]


_FACT = ("subject", "question", "answer_new")
COLUMNS = tuple(Row.model_fields)


class Rows(NamedTuple):
    """What a table holds.

    Attributes:
        rows: in their order, each with an id of its own.
        left_out: those that cannot be used, with `on_error="skip"`.
        unread: columns that are not read.
    """

    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...] = ()
    unread: tuple[str, ...] = ()


def read_rows(path: Path, on_error: OnError = "error") -> Rows:
    """Reads a table of facts.

    Args:
        path: a .csv (UTF-8, commas, names of columns in its first line), .jsonl, .json (a list of
            objects) or .parquet file. Empty cells are absent.
        on_error: whether a row that cannot be used ends with an error, or is left out and listed.

    Raises:
        DataError: the file cannot be read, lacks a column, or holds no row that can be used; with
            `on_error="error"` also a row that cannot, or that stands there twice. The message
            names the first few.
    """
    cells = list(_READERS[_kind(path)](path))
    if not cells:
        raise DataError(f"{path} holds no rows: it needs one for each edit.")
    unread = _check_columns(path, cells)
    rows: dict[str, tuple[str, Row]] = {}
    left_out: list[LeftOut] = []
    for position, values in cells:
        try:
            row = _row(values)
            if row.id in rows:
                raise DataError(
                    f"the id {row.id!r} is that of {rows[row.id][0]} too"
                    + ("" if values.get("id") else ", with the same subject, question and answer")
                )
            rows[row.id] = (position, row)
        except DataError as error:
            subject = values.get("subject")
            left_out.append(
                LeftOut(position, subject if isinstance(subject, str) else None, str(error))
            )
    if left_out and (on_error == "error" or not rows):
        count = f"{len(left_out)} of {len(cells)} rows"
        hint = "" if not rows else ", or leave them out with on_error=skip"
        raise DataError(
            f"{path}: {count} cannot be used: {first_of(left_out)}. Correct them{hint}."
        )
    return Rows(tuple(row for _, row in rows.values()), tuple(left_out), unread)


class _Cells(NamedTuple):
    """A row as it stands in the file: where (`line 3`), and its values that are not empty."""

    position: str
    values: Mapping[str, Any]


def _row(values: Mapping[str, Any]) -> Row:
    """One row; its mistakes are a `DataError`."""
    if broken := values.get(_BROKEN):
        raise DataError(str(broken))
    try:
        return Row.model_validate(values)
    except ValidationError as error:
        whole = [item for item in error.errors() if not item["loc"]]
        if whole:  # a rule between columns: the row as a value says nothing
            raise DataError(whole[0]["msg"].removeprefix("Value error, ")) from error
        raise DataError(field_errors(error)) from error


_BROKEN = "\0"  # in place of a column: why a line cannot be read


def _kind(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise DataError(
            f"rows={path}: tables that end in {', '.join(KINDS)} are read"
            f"{', and a spreadsheet after it was saved as .csv' if suffix[:4] == '.xls' else ''}."
        )
    return suffix


def _from_csv(path: Path) -> Iterator[_Cells]:
    """Rows of a CSV file, by the numbers of their first lines."""
    try:
        text = path.read_bytes().decode("utf-8-sig")  # line breaks in cells stay what they are
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}). Save it as CSV in UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"the table {path} cannot be read ({error.strerror}).") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        names = [name.strip() for name in next(reader, [])]
        _check_header(path, names)
        line = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield _Cells(f"line {line}", _named(names, cells))
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path} is no CSV from line {line} on: {error}. A cell with a comma, a quote or a "
            'line break stands between ", and a quote in it is written "".'
        ) from error


def _check_header(path: Path, names: Sequence[str]) -> None:
    for other, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(names) == 1 and other in names[0]:
            raise DataError(
                f"{path}: its columns are parted by {name}. Save it with commas between them."
            )
    if twice := [name for name, count in Counter(filter(None, names)).items() if count > 1]:
        raise DataError(f"{path}: the column {twice[0]!r} stands twice in its first line.")


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(names):
        why = f"it has {len(cells)} cells, and the first line names {len(names)} columns"
        return {_BROKEN: f"{why}: a comma inside a cell needs quotes around the cell"}
    return {name: cell for name, cell in zip(names, cells, strict=True) if cell.strip()}


def _from_json(path: Path) -> Iterator[_Cells]:
    """Rows of JSON lines, or of one list."""
    for number, element in enumerate(read_list(path, "rows", broken_lines=True), start=1):
        position = f"row {number}" if element.line is None else f"line {element.line}"
        if element.mistake is not None:
            yield _Cells(position, {_BROKEN: element.mistake})
        elif not isinstance(element.value, dict):
            yield _Cells(position, {_BROKEN: "an object with the names of columns is needed"})
        else:
            yield _Cells(position, _present(element.value))


def _from_parquet(path: Path) -> Iterator[_Cells]:
    """Rows of a Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except OSError as error:
        raise DataError(f"the table {path} cannot be read ({error}).") from error
    except pa.ArrowException as error:
        raise DataError(f"{path} is no Parquet file ({error}).") from error
    for number, values in enumerate(table.to_pylist(), start=1):
        yield _Cells(f"row {number}", _present(values))


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is absent, which is also an empty text: tables have no other way to say it."""
    return {k: v for k, v in values.items() if v is not None and v != ""}


_READERS = {CSV: _from_csv, **dict.fromkeys(SUFFIXES, _from_json), PARQUET: _from_parquet}


def _check_columns(path: Path, cells: Sequence[_Cells]) -> tuple[str, ...]:
    """The columns that are not read.

    Raises:
        DataError: no row has a column that is required, or one is misspelt.
    """
    names = dict.fromkeys(name for _, values in cells for name in values if name != _BROKEN)
    unknown = [name for name in names if name not in COLUMNS]
    absent = [name for name in COLUMNS if name not in names]
    meant = {name: column for name in unknown if (column := _meant(name, absent))}
    required = [name for name in absent if name in REQUIRED]
    if names and required:
        hints = [f"{column} may be its {name!r}" for name, column in meant.items()]
        raise DataError(
            f"{path} has no column {', '.join(required)}"
            f"{f' ({chr(59).join(hints)})' if hints else ''}. Its columns are "
            f"{', '.join(names)}; needed are {', '.join(REQUIRED)}. Rename them in the file."
        )
    misspelt = {name: column for name, column in meant.items() if name not in _ELSEWHERE}
    if misspelt:
        name, column = next(iter(misspelt.items()))
        raise DataError(
            f"{path} has a column {name!r}, which is not read; {column} is. Rename it, or take it "
            "out."
        )
    return tuple(unknown)


def _meant(name: str, absent: Sequence[str]) -> str | None:
    """The absent column that an unknown name may stand for."""
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if _ELSEWHERE.get(plain) in absent:
        return _ELSEWHERE[plain]
    return next(iter(difflib.get_close_matches(plain, absent, n=1, cutoff=0.8)), None)


def _digest(parts: Sequence[Any]) -> str:
    """Twelve digits of a hash."""
    return hashlib.sha256("\n".join(map(repr, parts)).encode()).hexdigest()[:12]
