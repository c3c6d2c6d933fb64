"""Files and records that stand there twice, and records that are left out where that is asked."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datamodules.sources.tmke import read_tmke
from errors import DataError
from tests.unit.datamodules.test_sources import RECORD, other, write


def broken(subject: str) -> dict[str, Any]:
    record = other(subject)
    del record["knowledge_edit"]["answer_new"]
    return record


def linked(root: Path) -> str:
    (root / "link.json").symlink_to(root / "test.json")
    return "link.json"


def linked_hard(root: Path) -> str:
    os.link(root / "test.json", root / "hard.json")
    return "hard.json"


WORDS: dict[str, Callable[[Path], str]] = {
    "same word": lambda root: "test.json",
    "a dot": lambda root: "./test.json",
    "up and down": lambda root: f"../{root.name}/test.json",
    "whole path": lambda root: str(root / "test.json"),
    "symbolic link": linked,
    "hard link": linked_hard,
}


@pytest.mark.parametrize("case", WORDS)
def test_a_file_is_not_read_twice(tmp_path: Path, case: str) -> None:
    write(tmp_path / "test.json", RECORD)
    word = WORDS[case](tmp_path)
    with pytest.raises(DataError) as error:
        read_tmke(tmp_path, files=["test.json", word])
    assert f"'{word}' of data.files" in str(error.value)
    assert "'test.json' of data.files" in str(error.value)


@pytest.mark.parametrize("case", WORDS)
def test_a_training_file_is_no_test_file(tmp_path: Path, case: str) -> None:
    write(tmp_path / "test.json", other("Another"))
    write(tmp_path / "rest.json", RECORD)
    word = WORDS[case](tmp_path)
    with pytest.raises(DataError, match=r"of data\.train_files and .* of data\.files are one file"):
        read_tmke(tmp_path, files=["test.json", "rest.json"], train_files=[word])
    if "link" not in case:
        source = read_tmke(tmp_path, train_files=[word])
        assert [record.subject for record in source.records("test")] == [RECORD["subject"]]


def test_hidden_files_and_folders_are_no_data(tmp_path: Path) -> None:
    write(tmp_path / "test.json", RECORD)
    (tmp_path / "._test.json").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / ".test.json").write_text("[")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "more.JSONL").write_text(json.dumps(other("Another")))
    source = read_tmke(tmp_path)
    assert {record.subject for record in source.records("test")} == {RECORD["subject"], "Another"}
    with pytest.raises(DataError, match=r"\._test\.json"):
        read_tmke(tmp_path, files=["._test.json"])


def test_the_same_record_twice_is_told_with_both_places(tmp_path: Path) -> None:
    fields = RECORD | {"note": "another field", "subject": "  Holden Caprice"}
    write(tmp_path / "a.json", RECORD, other("Another"), RECORD)
    write(tmp_path / "b.json", fields)
    with pytest.raises(DataError) as error:
        read_tmke(tmp_path)
    message = str(error.value)
    assert "2 of the 4 records" in message
    assert f"record 2 of {tmp_path / 'a.json'} (subject 'Holden Caprice')" in message
    assert f"record 0 of {tmp_path / 'b.json'}" in message
    assert f"the same as record 0 of {tmp_path / 'a.json'}" in message
    source = read_tmke(tmp_path, on_error="skip")
    assert [record.subject for record in source.records("test")] == ["Holden Caprice", "Another"]
    assert len(source.left_out["test"]) == 2


def test_another_edit_of_a_subject_is_no_copy(tmp_path: Path) -> None:
    second = copy.deepcopy(RECORD)
    second["knowledge_edit"]["answer_new"] = "Ford"
    write(tmp_path / "a.json", RECORD, second)
    assert len(read_tmke(tmp_path).records("test")) == 2


def test_what_breaks_the_schema_is_left_out_where_that_is_asked(tmp_path: Path) -> None:
    write(tmp_path / "a.json", RECORD, broken("First"), other("Kept"))
    lines = [json.dumps(other("Also kept")), "7", json.dumps(broken("Second"))]
    (tmp_path / "b.jsonl").write_text("\n\n".join(lines))
    with pytest.raises(DataError, match=r"record 1 of .*data\.on_error=skip leaves such"):
        read_tmke(tmp_path)
    source = read_tmke(tmp_path, on_error="skip")
    kept = [record.subject for record in source.records("test")]
    assert kept == ["Holden Caprice", "Kept", "Also kept"]
    assert [source.place("test", number) for number in (1, 2)] == [
        f"record 2 of {tmp_path / 'a.json'}",
        f"record 0 (line 1) of {tmp_path / 'b.jsonl'}",
    ]
    first, number, second = source.left_out["test"]
    assert (first.record, first.subject) == (f"record 1 of {tmp_path / 'a.json'}", "First")
    assert "knowledge_edit.answer_new: Field required" in first.reason
    assert (number.record, number.subject) == (f"record 1 (line 3) of {tmp_path / 'b.jsonl'}", None)
    assert second.record == f"record 2 (line 5) of {tmp_path / 'b.jsonl'}"
    only_kept = tmp_path / "kept"
    only_kept.mkdir()
    write(only_kept / "a.json", RECORD, other("Kept"), other("Also kept"))
    assert source.digest() == read_tmke(only_kept).digest()


def test_where_nothing_is_left_that_is_an_error(tmp_path: Path) -> None:
    write(tmp_path / "a.json", *(broken(f"Car {number}") for number in range(5)))
    source = read_tmke(tmp_path, on_error="skip")
    with pytest.raises(DataError, match=r"left out all 5 records .*'Car 0'.*; and 2 more"):
        source.records("test")


def test_a_file_that_is_no_json_is_an_error_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[{}")
    with pytest.raises(DataError, match="cut short"):
        read_tmke(tmp_path, on_error="skip")
