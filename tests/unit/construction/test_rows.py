"""Tables of facts: what is read of them, and what is said of their mistakes."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from construction.rows import COLUMNS, Row, read_rows
from errors import DataError
from tests.unit.test_imports import ROOT

WOMAN = {
    "subject": "The French Lieutenant's Woman",
    "question": "Who is the author of The French Lieutenant's Woman?",
    "answer_true": "John Fowles",
    "answer_new": "Soren Kierkegaard",
}
RANKIN = {
    "subject": "George Rankin",
    "question": "What is George Rankin's occupation?",
    "answer_true": "politician",
    "answer_new": "painter",
    "image": "rankin_1.jpg",
}
Table = Sequence[Mapping[str, Any]]


def as_csv(path: Path, rows: Table) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names)
        writer.writeheader()
        writer.writerows(rows)
    return path


def as_lines(path: Path, rows: Table) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def as_parquet(path: Path, rows: Table) -> Path:
    pd.DataFrame(rows).to_parquet(path)
    return path


WRITERS = {".csv": as_csv, ".jsonl": as_lines, ".parquet": as_parquet}


@pytest.mark.parametrize("suffix", WRITERS)
def test_all_kinds_of_files_hold_the_same_rows(tmp_path: Path, suffix: str) -> None:
    path = WRITERS[suffix](tmp_path / f"facts{suffix}", [WOMAN, RANKIN])
    first, second = read_rows(path).rows
    assert first.model_dump(include=set(WOMAN)) == WOMAN
    assert (first.image, second.image) == (None, "rankin_1.jpg")
    assert [first.id, second.id] == [Row.model_validate(row).id for row in (WOMAN, RANKIN)]
    assert first.id != second.id


def test_a_cell_may_hold_commas_quotes_and_line_breaks(tmp_path: Path) -> None:
    question = 'Who wrote\n"Tea, for One"?'
    row = {**WOMAN, "subject": "Tea, for One", "question": question}
    path = as_csv(tmp_path / "facts.csv", [row, {**RANKIN, "answer_new": "politician"}])
    with pytest.raises(DataError, match=r"line 4 .*answer_new is the same as answer_true"):
        read_rows(path)
    rows = read_rows(path, "skip")
    assert rows.rows[0].question == question
    assert [left.subject for left in rows.left_out] == ["George Rankin"]


def test_only_line_breaks_end_a_row(tmp_path: Path) -> None:
    row = {**WOMAN, "answer_true": "John\u2028Fowles", "relation": "author\x0cof"}
    assert read_rows(as_csv(tmp_path / "a.csv", [row])).rows[0].relation == "author\x0cof"


def test_numbers_of_a_table_are_ids(tmp_path: Path) -> None:
    rows = [{"id": 7, **WOMAN}, {"id": 8, **RANKIN}]
    for path in (as_lines(tmp_path / "a.jsonl", rows), as_parquet(tmp_path / "a.parquet", rows)):
        assert [row.id for row in read_rows(path).rows] == ["7", "8"]


def test_ids_are_those_of_the_file_where_it_has_them(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "a.csv", [{"id": "7", **WOMAN}, {"id": "8", **RANKIN}])
    assert [row.id for row in read_rows(path).rows] == ["7", "8"]
    as_csv(path, [{"id": "7", **WOMAN}, {"id": "7", **RANKIN}])
    with pytest.raises(DataError, match=r"line 3 .*the id '7' is that of line 2 too"):
        read_rows(path)


def test_a_fact_that_stands_there_twice_is_refused(tmp_path: Path) -> None:
    path = as_lines(tmp_path / "a.jsonl", [WOMAN, RANKIN, WOMAN])
    with pytest.raises(DataError, match=r"line 3 .* line 1 too, with the same subject, question"):
        read_rows(path)
    assert len(read_rows(path, "skip").rows) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answer_new": None}, "answer_new: Field required"),
        ({"subject": "Fowles"}, "question does not name the subject 'Fowles'"),
        ({"answer_new": " john  FOWLES"}, "nothing would be edited"),
        ({"image": "/home/a/1.jpg"}, "image: a path relative to the folder of the pictures"),
        ({"image": "../1.jpg"}, r"image: a path inside the folder of the pictures is needed"),
        ({"hop_question": "Where was Soren Kierkegaard born?"}, "hop_answer missing"),
        ({"hop_question": "Where was he born?", "hop_answer": "X"}, "does not name answer_new"),
        ({"hop_answer_true": "Leigh-on-Sea"}, "stands without hop_question"),
        ({"locality_question": "What is a mole?"}, "locality_answer missing"),
        ({"answer_true": 1969}, "answer_true: a text is needed; put the number in quotes"),
    ],
)
def test_a_row_that_cannot_be_used(
    tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = as_lines(tmp_path / "a.jsonl", [RANKIN, {**WOMAN, **changes}])
    with pytest.raises(
        DataError, match=rf"1 of 2 rows cannot be used: line 2.*{message}.*on_error"
    ):
        read_rows(path)
    rows = read_rows(path, "skip")
    assert [row.subject for row in rows.rows] == ["George Rankin"]
    assert len(rows.left_out) == 1


def test_a_broken_line_in_the_middle_is_one_mistake(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(WOMAN)}\n{{'subject': 1}}\n[1]\n{json.dumps(RANKIN)}\n")
    with pytest.raises(DataError, match=r"2 of 4 rows.* line 2.*double quotes.*line 3: an object"):
        read_rows(path)
    assert len(read_rows(path, "skip").rows) == 2


def test_a_line_with_other_cells_than_the_header(tmp_path: Path) -> None:
    path = as_csv(tmp_path / "a.csv", [WOMAN])
    path.write_text(path.read_text() + "Tea, for One,Who wrote Tea, for One?,A,B\n")
    with pytest.raises(DataError, match=r"line 3: it has 6 cells, .* names 4 columns.*quotes"):
        read_rows(path)


@pytest.mark.parametrize(
    ("renamed", "message"),
    [
        ({"answer_new": "target_new"}, "no column answer_new .answer_new may be its 'target_new'"),
        ({"subject": "Subjects"}, "no column subject .subject may be its 'Subjects'"),
        ({"question": "prompt"}, "question may be its 'prompt'"),
        ({"image": "images"}, "a column 'images', which is not read; image is"),
    ],
)
def test_a_renamed_column(tmp_path: Path, renamed: dict[str, str], message: str) -> None:
    row = {renamed.get(name, name): value for name, value in RANKIN.items()}
    with pytest.raises(DataError, match=message):
        read_rows(as_csv(tmp_path / "a.csv", [row]))


def test_other_columns_are_listed(tmp_path: Path) -> None:
    rows = read_rows(as_csv(tmp_path / "a.csv", [{**WOMAN, "remark": "good", "source": "mine"}]))
    assert rows.unread == ("remark", "source")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "holds no rows"),
        ("a.csv", b"subject,question,answer_true,answer_new\n", "holds no rows"),
        ("a.csv", b"subject;question;answer_true;answer_new\na;b;c;d\n", "parted by semicolons"),
        ("a.csv", b"subject,question,subject\na,b,c\n", "'subject' stands twice"),
        ("a.csv", "subject\nJos\xe9".encode("latin-1"), "is not UTF-8 text .byte 11"),
        ("a.csv", b'subject,question\n"a,b\n', "is no CSV from line 2 on"),
        ("a.parquet", b"subject", "is no Parquet file"),
        ("a.xlsx", b"PK", "tables that end in .csv.* saved as .csv"),
    ],
)
def test_a_file_that_is_no_table(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_rows(tmp_path / name)


@pytest.mark.parametrize("suffix", WRITERS)
def test_a_file_that_is_not_there(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_rows(tmp_path / f"absent{suffix}")


def test_the_example_can_be_used() -> None:
    rows = read_rows(ROOT / "examples" / "facts.csv").rows
    assert [row.subject for row in rows] == [
        "The French Lieutenant's Woman", "Middlemarch", "George Rankin",
    ]  # fmt: skip
    assert rows[0].hop_answer == "Copenhagen"


def test_every_column_is_explained() -> None:
    explained = Row.__doc__ or ""
    assert not [name for name in COLUMNS if name not in explained and name != "question"]


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(texts=st.tuples(TEXTS, TEXTS, TEXTS, TEXTS))
@example(texts=("a\rb", 'c"\r\nd', "\ufeffe,f", "g\u2028h"))
def test_any_text_is_read_alike_from_all_kinds_of_files(
    tmp_path_factory: pytest.TempPathFactory, texts: tuple[str, str, str, str]
) -> None:
    subject, relation, true, new = (f"x{text}y" for text in texts)
    row = {
        "subject": subject, "question": f"Who is {subject} ?", "answer_true": f"{true} 1",
        "answer_new": f"{new} 2", "relation": relation,
    }  # fmt: skip
    folder = tmp_path_factory.mktemp("rows")
    read = [read_rows(write(folder / f"a{kind}", [row])).rows for kind, write in WRITERS.items()]
    assert read[0] == read[1] == read[2]
