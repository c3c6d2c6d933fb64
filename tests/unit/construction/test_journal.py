"""The journal: what is on the disk, whatever happens to the process."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from construction.journal import Journal, put_aside
from construction.requests import Request, questions
from errors import DataError
from results.files import UnwritableError
from tests.unit.construction.test_replies import ROW, reply
from tests.unit.construction.test_requests import ENDPOINT, request_of

HEADER = {"prompts": "a", "endpoint.model": "gpt-4o"}
REQUESTS = [request_of(question.step({})) for question in questions(ROW, ENDPOINT)]
REPLY = reply({"entity_type": "café"})


def journal(path: Path, header: dict[str, str] = HEADER) -> Journal:
    return Journal(path / "journal.jsonl", header)


def write(path: Path, answered: int = 3) -> bytes:
    """A journal of four requests, some of which were answered."""
    book = journal(path)
    with book.opened():
        for request in REQUESTS:
            book.sent(request)
        for request in REQUESTS[:answered]:
            book.reply(request.key, REPLY)
    return book.path.read_bytes()


def test_replies_are_read_back(tmp_path: Path) -> None:
    write(tmp_path)
    book = journal(tmp_path)
    book.read()
    assert book.replies == {request.key: REPLY for request in REQUESTS[:3]}
    assert book.lost == {REQUESTS[3].key}


@settings(max_examples=60, deadline=None)
@given(cut=st.floats(0, 1))
def test_a_journal_that_was_cut_anywhere_goes_on(tmp_path_factory: object, cut: float) -> None:
    path: Path = tmp_path_factory.mktemp("cut")  # type: ignore[attr-defined]
    content = write(path)
    (path / "journal.jsonl").write_bytes(content[: int(cut * len(content))])
    book = journal(path)
    with book.opened():
        before = dict(book.replies)
        for request in REQUESTS:
            if request.key not in book.replies:
                book.sent(request)
                book.reply(request.key, REPLY)
    again = journal(path)
    again.read()
    whole = content[: int(cut * len(content))].count(b'"kind": "reply"')
    assert len(before) in (whole, whole - 1)
    assert again.replies == {request.key: REPLY for request in REQUESTS}
    assert not again.lost
    for line in again.path.read_text(encoding="utf-8").splitlines():
        json.loads(line)


def test_reading_mends_nothing(tmp_path: Path) -> None:
    content = write(tmp_path)[:-5]
    (tmp_path / "journal.jsonl").write_bytes(content)
    journal(tmp_path).read()
    assert (tmp_path / "journal.jsonl").read_bytes() == content


@pytest.mark.parametrize("broken", [b"{]\n", b"[]\n", b'{"kind": "reply"}\n', b"\xff\xfe\n"])
def test_a_broken_line_before_the_last_is_an_error(tmp_path: Path, broken: bytes) -> None:
    lines = write(tmp_path).splitlines(keepends=True)
    lines[2] = broken
    (tmp_path / "journal.jsonl").write_bytes(b"".join(lines))
    with pytest.raises(DataError, match=r"line 3 of .*journal.jsonl"):
        journal(tmp_path).read()


def test_a_journal_of_other_questions_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path)
    other = journal(tmp_path, {"prompts": "b", "endpoint.model": "gpt-4o"})
    with pytest.raises(DataError, match=r"prompts was 'a' and is 'b'\. .* overwrite=true") as error:
        other.read()
    assert "endpoint.model" not in str(error.value)
    aside = put_aside(other.path)
    assert aside is not None
    assert (aside.name, aside.read_bytes()) == ("journal-1.jsonl", content)
    write(tmp_path)
    again = put_aside(other.path)
    assert again is not None
    assert again.name == "journal-2.jsonl"
    assert put_aside(other.path) is None


def test_another_file_is_no_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").write_text('{"subject": "a"}\n')
    with pytest.raises(DataError, match=r"line 1 of .* is no line of a journal"):
        journal(tmp_path).read()


def test_batches_are_open_until_they_have_ended(tmp_path: Path) -> None:
    keys = [request.key for request in REQUESTS]
    book = journal(tmp_path)
    with book.opened():
        book.upload("file-0", keys[:2])
        book.batch("batch-0", "file-0")
        book.reply(keys[0], REPLY, in_batch=True)
        book.ended("batch-0", "expired")
        book.upload("file-1", keys[2:3])
        book.batch("batch-1", "file-1")
        book.upload("file-2", keys[3:])
    again = journal(tmp_path)
    again.read()
    assert (again.open_batches, again.uploads) == ({"batch-1": keys[2:3]}, {"file-2": keys[3:]})
    assert again.batched == {keys[0]}


def test_a_request_is_noted_before_it_goes_out(tmp_path: Path) -> None:
    book = journal(tmp_path)
    with book.opened():
        book.sent(REQUESTS[0])
        last = json.loads(book.path.read_bytes().splitlines()[-1])
    assert (last["kind"], last["request"], last["row"]) == ("sent", REQUESTS[0].key, ROW.id)


def test_replies_are_brought_to_the_disk_with_signals_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    @contextmanager
    def held() -> Iterator[None]:
        events.append("held")
        yield
        events.append("free")

    monkeypatch.setattr(os, "fsync", lambda file: events.append("disk"))
    book = Journal(tmp_path / "journal.jsonl", HEADER, held)
    with book.opened():
        events.clear()
        book.sent(REQUESTS[0])
        book.reply(REQUESTS[0].key, REPLY)
    assert events == ["held", "free", "held", "disk", "free"]


def test_a_journal_that_is_not_open_takes_nothing(tmp_path: Path) -> None:
    request: Request = REQUESTS[0]
    with pytest.raises(RuntimeError, match="not open"):
        journal(tmp_path).sent(request)


class _FullDisk:
    """A file whose disk is full after so many bytes."""

    def __init__(self, file: FileIO, room: int) -> None:
        self._file, self._room = file, room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: memoryview) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        part = content[: self._room]
        self._room -= len(part)
        return self._file.write(part)


@pytest.mark.parametrize("room", [0, 1, 100, 10_000])
def test_a_full_disk_leaves_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    content = write(tmp_path, answered=0)
    book = journal(tmp_path)
    with suppress(UnwritableError), book.opened():
        assert book._file is not None
        monkeypatch.setattr(book, "_file", _FullDisk(book._file, room))
        for request in REQUESTS:
            book.reply(request.key, REPLY)
    after = book.path.read_bytes()
    assert after.startswith(content)
    assert after.endswith(b"\n")
    assert len(after) <= len(content) + room
    again = journal(tmp_path)
    again.read()
    assert len(again.replies) == (4 if room == 10_000 else 0)


def test_an_error_of_the_disk_names_the_journal(tmp_path: Path) -> None:
    (tmp_path / "journal.jsonl").mkdir()
    with pytest.raises(DataError, match=r"journal\.jsonl cannot be read .Is a directory"):
        journal(tmp_path).read()
