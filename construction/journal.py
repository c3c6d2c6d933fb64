"""The journal: what was sent and what was answered, on the disk before anything else is done.

    DIR/journal.jsonl    {"kind": "journal", ...}    first line: questions, model, endpoint
                         {"kind": "sent", "request": KEY, ...}       before a request goes out
                         {"kind": "reply", "request": KEY, ...}      brought to the disk (fsync)
                         {"kind": "failed", "request": KEY, ...}     no reply came
                         {"kind": "upload" | "batch" | "ended", ...} of the Batch API

Lines are only added. A request is known by the hash of what it sends, so a reply is used by every
later run that would send the same, and no answer is paid for twice. Of what was under way when a
run was killed nobody knows whether it was answered: those requests are counted, and sent again. A
last line that was cut short is taken back; a broken line before it is an error.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from construction.replies import Reply
from construction.requests import Request
from errors import DataError
from results.files import UnwritableError, differences

_FORM = 1  # of the lines


class Journal:
    """The journal of an output folder, as it was read, and open for more.

    Args:
        path: the file.
        header: what all of its replies have in common.
        held: entered around each write, so that no signal ends one half way.

    Attributes:
        replies: key of a request -> its reply.
        batched: keys of those replies that came from the Batch API, which costs less.
        open_batches: id of a batch -> keys of its requests, for those that have not ended.
        uploads: id of a file -> keys of its requests, for those that no batch was made of.
        lost: keys of requests of which nobody knows whether they were answered.
    """

    def __init__(
        self, path: Path, header: Mapping[str, Any],
        held: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:  # fmt: skip
        self.path, self._header, self._held = path, {"form": _FORM, **header}, held
        self.replies: dict[str, Reply] = {}
        self.batched: set[str] = set()
        self.open_batches: dict[str, list[str]] = {}
        self.uploads: dict[str, list[str]] = {}
        self.lost: set[str] = set()
        self._file: FileIO | None = None

    def read(self) -> None:
        """Reads what is there; changes nothing.

        Raises:
            DataError: it cannot be read, a line before the last is broken, or it is one of other
                questions, another model or another endpoint.
        """
        for number, line in enumerate(_lines(self.path), start=1):
            self._take(number, line)

    @contextmanager
    def opened(self) -> Iterator[None]:
        """The journal read, mended and open for more; its folder has to be locked.

        Raises:
            DataError: as `read`.
            UnwritableError: nothing can be written there.
        """
        self.read()
        whole = _whole_bytes(self.path)
        try:
            with self.path.open("ab", buffering=0) as file:
                file.truncate(whole)
                self._file = file
                if not whole:
                    self._add({"kind": "journal", **self._header}, to_disk=True)
                yield
        except OSError as error:
            if isinstance(error, UnwritableError):
                raise
            raise UnwritableError(self.path, error) from error
        finally:
            self._file = None

    def sent(self, request: Request) -> None:
        """Notes that a request goes out."""
        self._add(
            {
                "kind": "sent", "request": request.key, "row": request.row,
                "prompt": request.prompt, "at": _now(),
            }
        )  # fmt: skip

    def reply(self, key: str, reply: Reply, *, in_batch: bool = False) -> None:
        """Brings a reply to the disk."""
        line = {"kind": "reply", "request": key, "at": _now(), **reply._asdict()}
        self._add({**line, **({"in_batch": True} if in_batch else {})}, to_disk=True)
        self._note_reply(key, reply, in_batch=in_batch)

    def failed(self, request: Request, why: str) -> None:
        """Notes that a request came to nothing, so that it does not count as one under way."""
        self._add({"kind": "failed", "request": request.key, "at": _now(), "why": why})
        self.lost.discard(request.key)

    def upload(self, file: str, keys: Sequence[str]) -> None:
        """Notes a file of requests that lies at the endpoint."""
        self._add({"kind": "upload", "file": file, "requests": list(keys)}, to_disk=True)
        self.uploads[file] = list(keys)

    def batch(self, batch: str, file: str) -> None:
        """Notes the batch that was made of a file."""
        self._add({"kind": "batch", "batch": batch, "file": file}, to_disk=True)
        self.open_batches[batch] = self.uploads.pop(file)

    def ended(self, batch: str, status: str) -> None:
        """Notes that a batch has ended, after its replies."""
        self._add({"kind": "ended", "batch": batch, "status": status}, to_disk=True)
        self.open_batches.pop(batch, None)

    def _note_reply(self, key: str, reply: Reply, *, in_batch: bool) -> None:
        self.replies[key] = reply
        self.lost.discard(key)
        if in_batch:
            self.batched.add(key)

    def _take(self, number: int, line: Mapping[str, Any]) -> None:
        try:
            kind = line["kind"]
            if kind == "journal":
                self._check_header(line)
            elif number == 1:
                raise KeyError("kind")
            elif kind == "sent":
                self.lost.add(line["request"])
            elif kind == "reply":
                values = {name: line[name] for name in Reply._fields}
                in_batch = line.get("in_batch", False)
                self._note_reply(line["request"], Reply(**values), in_batch=in_batch)
            elif kind == "failed":
                self.lost.discard(line["request"])
            elif kind == "upload":
                self.uploads[line["file"]] = list(line["requests"])
            elif kind == "batch":
                self.open_batches[line["batch"]] = self.uploads.pop(line["file"], [])
            elif kind == "ended":
                self.open_batches.pop(line["batch"], None)
        except (KeyError, TypeError) as error:
            raise DataError(
                f"line {number} of {self.path} is no line of a journal ({error}). Restore the file "
                "from a copy, or move it away; what it holds is then paid for anew."
            ) from error

    def _check_header(self, line: Mapping[str, Any]) -> None:
        before = {name: value for name, value in line.items() if name != "kind"}
        if differing := differences(before, self._header):
            raise DataError(
                f"{self.path} is of another construction: {'; '.join(differing)}. Answers of both "
                "would be mixed. Type what was, name another output_dir, or add overwrite=true, "
                "which puts that journal aside and asks anew."
            )

    def _add(self, line: Mapping[str, Any], *, to_disk: bool = False) -> None:
        """Adds a line; one that a full disk takes half of is taken back."""
        file = self._file
        if file is None:
            raise RuntimeError("the journal is not open")
        content = memoryview(f"{json.dumps(line, ensure_ascii=False)}\n".encode())
        with self._held():
            end = os.fstat(file.fileno()).st_size
            try:
                while content:
                    content = content[file.write(content) :]
                if to_disk:
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(end)
                raise


def put_aside(path: Path) -> Path | None:
    """Gives a journal another name, of which there is none yet; None where there is no journal."""
    if not path.exists():
        return None
    numbers = iter(range(1, 10_000))
    aside = next(p for n in numbers if not (p := path.with_name(f"{path.stem}-{n}.jsonl")).exists())
    path.rename(aside)
    return aside


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole."""
    try:
        content = path.read_bytes()[: _whole_bytes(path)]
    except FileNotFoundError:
        return
    except OSError as error:
        raise DataError(f"the journal {path} cannot be read ({error.strerror}).") from error
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"line {number} of {path} is broken ({error}), and others follow it: something "
                "else has written there. Restore the file from a copy, take the line out (what it "
                "held is then paid for anew), or move the file away."
            ) from error
        if not isinstance(value, dict):
            raise DataError(f"line {number} of {path} is no line of a journal.")
        yield value


def _whole_bytes(path: Path) -> int:
    """Length of the file up to the end of its last whole line."""
    try:
        return path.read_bytes().rfind(b"\n") + 1
    except FileNotFoundError:
        return 0


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
