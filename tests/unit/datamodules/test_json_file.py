"""JSON as people have it: what is read, and every mistake told as what it is, with its place."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from datamodules.json_file import read_json, read_list
from errors import DataError

VALUE = [{"a": "José", "b": 1, "c": [2.5, True, None]}, {"a": "x,]", "b": 10**30, "c": []}]
TEXT = json.dumps(VALUE, indent=1, ensure_ascii=False)


@pytest.mark.parametrize(
    "content",
    [
        TEXT.encode(),
        b"\xef\xbb\xbf" + TEXT.encode(),
        TEXT.replace("\n", "\r\n").encode(),
        ("\n\n" + TEXT + " \n").encode(),
        json.dumps(VALUE, ensure_ascii=True).encode(),
    ],
    ids=["plain", "byte order mark", "CRLF", "blank lines around", "escaped"],
)
def test_one_value_is_read_however_it_was_saved(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    assert read_json(path) == VALUE
    assert [element.value for element in read_list(path, "records")] == VALUE


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.JSONL"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
def test_json_lines_are_a_list(tmp_path: Path, name: str, end: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"\xef\xbb\xbf" + end.join(map(json.dumps, VALUE)).encode())
    elements = read_list(path, "records")
    assert [element.value for element in elements] == VALUE
    assert [element.line for element in elements] == [1, 1 + end.count("\n")]


def test_a_line_alone_is_a_list_where_the_name_says_so(tmp_path: Path) -> None:
    for name, fits in (("a.jsonl", True), ("a.json", False)):
        path = tmp_path / name
        path.write_text('{"a": 1}')
        if fits:
            assert [element.value for element in read_list(path, "records")] == [{"a": 1}]
        else:
            with pytest.raises(DataError, match=r"holds one object\..*between \[ and \]"):
                read_list(path, "records")


LINES = [
    ("[1,\n 2,\n]", "line 2, column 3 a comma stands before the closing ]"),
    ('[{"a": 1,}]', "line 1, column 9 a comma stands before the closing }"),
    ('[\n{"a": "b', "line 2, column 7 the text ends too early: it was cut short"),
    ("[1, 2", "line 1, column 6 the text ends too early: it was cut short"),
    ("[1, fal", "line 1, column 5 the text ends too early: it was cut short"),
    ('[\n{"a": NaN}]', "line 2, column 7 NaN is no number, or"),
    ('["NaN", "\\"NaN", -Infinity]', "line 1, column 18 -Infinity is no number, or"),
    ("[1e999.5]", "line 1, column 2 1e999 is no number, or"),
    (f"[1,\n{'9' * 5000}]", f"line 2, column 1 {'9' * 40}... is no number, or"),
    (
        '[{"a": 1, "b": {"a": 2}},\n {"a": 3, "\\u0061": 4}]',
        "line 2, column 11 the key 'a' stands twice in its object",
    ),
    ("[" * 100_000, "line 1, column 100 lists and objects stand 100 deep"),
    ("[1]\n[2]", "line 2, column 1 more text follows a list"),
    ("\0\0\0\0", "is empty but for zero bytes"),
    ("[{'a': 1}]", "line 1, column 3 expecting property name enclosed in double quotes (JSON has"),
    ("// of 2024\n[1]", "line 1, column 1 expecting value (JSON has no comments)"),
    ('{"a": 1},\n{"b": 2}', "line 1, column 9 expecting value (a comma stands where"),
    ('["a\nb"]', "line 1, column 4 invalid control character"),
    ("", "is empty"),
    (" \n ", "is empty"),
    ("\ufeff", "is empty"),
    ("<!DOCTYPE html>", "it is a web page"),
    ("version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
    ("[]", "an empty list"),
    ('"text"', "holds a text"),
]


@pytest.mark.parametrize(("text", "told"), LINES, ids=[told[-45:] for _, told in LINES])
def test_a_mistake_is_told_as_what_it_is(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as error:
        read_list(path, "records")
    assert told in str(error.value)
    assert str(path) in str(error.value)
    assert ("cut short" in told) == ("cut short" in str(error.value))


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-16", "is UTF-16 text"),
        ("utf-16-le", "is UTF-16 text"),
        ("utf-32", "is UTF-32 text"),
        ("latin-1", "byte 0xe9 at line 3, column 12. It may be Latin-1"),
    ],
)
def test_another_encoding_is_told(tmp_path: Path, encoding: str, told: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(TEXT.encode(encoding))
    with pytest.raises(DataError, match=re.escape(told)):
        read_json(path)


def test_bytes_that_are_no_text_are_told(tmp_path: Path) -> None:
    contents: dict[str, Any] = {
        "byte 0xff at line 1, column 3": b'\xef\xbb\xbf["\xff"]',
        "gzip": b"\x1f\x8b\x08\x00",
        "zip archive": b"PK\x03\x04",
    }
    for told, content in contents.items():
        (tmp_path / "a.json").write_bytes(content)
        with pytest.raises(DataError, match=told):
            read_json(tmp_path / "a.json")


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(DataError, match=r"folder\.json cannot be read \(Is a directory\)"):
        read_json(tmp_path / "folder.json")
    with pytest.raises(DataError, match=r"no\.json cannot be read \(No such file"):
        read_json(tmp_path / "no.json")


def test_a_mistake_in_a_later_line_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n{"a": 2,}\n')
    with pytest.raises(DataError, match="line 2, column 8 a comma stands before the closing }"):
        read_list(path, "records")
    path.write_text('{"a": 1}\n{"a": 2')
    with pytest.raises(DataError, match="line 2, column 8 the text ends too early"):
        read_list(path, "records")


def test_more_than_one_value_where_one_belongs(tmp_path: Path) -> None:
    path = tmp_path / "world.json"
    path.write_text('{"a": 1}\n{"b": 2}')
    with pytest.raises(DataError, match="line 2, column 1 more text follows"):
        read_json(path)


def test_whatever_happens_to_a_file_it_is_read_or_refused(tmp_path: Path) -> None:
    """Bytes changed, taken out and put in, by chance: never another exception."""
    draw = random.Random(0)
    path = tmp_path / "a.json"
    pieces = [b"{", b"}", b"[", b"]", b",", b'"', b"\\", b"9e999", b"NaN", b"\xff", b"\0", b":"]
    told: list[str] = []
    for _ in range(400):
        content = bytearray(TEXT.encode())
        for _ in range(draw.randint(1, 3)):
            at = draw.randrange(len(content))
            content[at : at + draw.randint(0, 2)] = draw.choice(pieces)
        path.write_bytes(content)
        for read in (read_json, lambda file: read_list(file, "records")):
            try:
                read(path)
            except DataError as error:
                told.append(str(error))
    assert 400 < len(told) < 800
    assert all(str(path) in message for message in told)
