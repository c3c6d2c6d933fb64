"""Odd JSON: each entry makes a file out of sound records and says what has to become of it."""

from __future__ import annotations

import codecs
import copy
import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.odd.records import FILE, records

Records = list[dict[str, Any]]


@dataclass(frozen=True)
class OddJson:
    """A data file and what is expected of it.

    Attributes:
        name: of the case.
        content: from sound records to the bytes of the file.
        says: patterns that the refusal has to match, the file's name apart; None: it reads as the
            sound records do.
        file: the file's name.
        n: records that it reads as.
    """

    name: str
    content: Callable[[Records], bytes]
    says: tuple[str, ...] | None = None
    file: str = FILE
    n: int = 3

    def __str__(self) -> str:
        return self.name

    def write(self, folder: Path) -> Path:
        """Puts the file into a folder, in place of the sound one."""
        (folder / FILE).unlink(missing_ok=True)
        path = folder / self.file
        path.write_bytes(self.content(records()))
        return path


def dumped(content: object, **options: Any) -> bytes:
    return json.dumps(content, **options).encode()


def lines(content: Iterable[object], end: str = "\n") -> bytes:
    return end.join(json.dumps(item) for item in content).encode() + end.encode()


def changed(path: str, value: object, number: int = 1) -> Callable[[Records], bytes]:
    """The records with one field of one of them, by dotted name, set to another value."""

    def content(given: Records) -> bytes:
        given = copy.deepcopy(given)
        *parents, last = path.split(".")
        node = given[number]
        for name in parents:
            node = node[name]
        node[last] = value
        return dumped(given)

    return content


def without(path: str, number: int = 1) -> Callable[[Records], bytes]:
    """The records without one field of one of them."""

    def content(given: Records) -> bytes:
        given = copy.deepcopy(given)
        *parents, last = path.split(".")
        node = given[number]
        for name in parents:
            node = node[name]
        del node[last]
        return dumped(given)

    return content


def written(field: str, text: str, number: int = 1) -> Callable[[Records], bytes]:
    """The records with an unknown field whose value is such JSON, which `json` would not write."""

    def content(given: Records) -> bytes:
        given = copy.deepcopy(given)
        given[number][field] = "PLACE"
        return dumped(given, indent=1).replace(b'"PLACE"', text.encode())

    return content


def twice(key: str, value: str) -> Callable[[Records], bytes]:
    """The records with a key of one of them twice."""

    def content(given: Records) -> bytes:
        plain = dumped(given, indent=1)
        at = plain.index(f'"{key}"'.encode())
        return plain[:at] + f'"{key}": {value},\n  '.encode() + plain[at:]

    return content


def cut(share: float) -> Callable[[Records], bytes]:
    return lambda given: dumped(given, indent=1)[: int(len(dumped(given, indent=1)) * share)]


SOUND = (
    OddJson("as it is", dumped),
    OddJson("indented", lambda given: dumped(given, indent=4)),
    OddJson("byte order mark", lambda given: codecs.BOM_UTF8 + dumped(given)),
    OddJson("CRLF", lambda given: dumped(given, indent=1).replace(b"\n", b"\r\n")),
    OddJson("CR alone", lambda given: dumped(given, indent=1).replace(b"\n", b"\r")),
    OddJson(
        "byte order mark and CRLF",
        lambda given: codecs.BOM_UTF8 + dumped(given, indent=1).replace(b"\n", b"\r\n"),
    ),
    OddJson("blank lines around", lambda given: b"\n\n \t" + dumped(given) + b"\r\n\n  "),
    OddJson("JSON lines", lines),
    OddJson("JSON lines, CRLF", lambda given: lines(given, "\r\n")),
    OddJson("JSON lines, byte order mark", lambda given: codecs.BOM_UTF8 + lines(given)),
    OddJson("JSON lines, blank lines", lambda given: b"\n" + lines(given, "\n\n") + b"\n"),
    OddJson("JSON lines, no last line end", lambda given: lines(given)[:-1]),
    OddJson("JSON lines by name", lines, file="records.jsonl"),
    OddJson("one JSON line", lambda given: lines(given[:1]), file="records.jsonl", n=1),
    OddJson("fields of its own", lambda given: dumped([{**r, "note": [1, {}]} for r in given])),
    OddJson("fields in another order", lambda given: dumped(given, sort_keys=True)),
    OddJson("blanks around values", changed("subject", "  Bernau \n")),
    OddJson("empty lists of hops", lambda given: dumped([{**r, "single_hops": []} for r in given])),
    OddJson("a long field of its own", changed("note", "x" * 1_000_000)),
)

BROKEN = (
    # No JSON
    OddJson("empty", lambda given: b"", ("empty",)),
    OddJson("blanks", lambda given: b" \n\n ", ("empty|line",)),
    OddJson("byte order mark alone", lambda given: codecs.BOM_UTF8, ("empty|line",)),
    OddJson("cut after a third", cut(0.33), ("line",)),
    OddJson("cut after a half", cut(0.5), ("line",)),
    OddJson("cut at its last byte", lambda given: dumped(given)[:-1], ("line",)),
    OddJson("cut JSON lines", lambda given: lines(given)[:-40], ("line 3",)),
    OddJson("comma before ]", lambda given: dumped(given)[:-1] + b",]", ("comma", "line 1")),
    OddJson("comma before }", lambda given: dumped(given)[:-2] + b",}]", ("comma", "line 1")),
    OddJson("no comma", lambda given: dumped(given).replace(b", ", b" ", 1), ("line 1",)),
    OddJson("two commas", lambda given: dumped(given).replace(b", ", b",, ", 1), ("line 1",)),
    OddJson("a comment", lambda given: b"// records\n" + dumped(given), ("line 1",)),
    OddJson(
        "a comment inside",
        lambda given: dumped(given, indent=1).replace(b"\n", b"  # note\n", 1),
        ("line 1",),
    ),
    OddJson("single quotes", lambda given: str(given).encode(), ("line 1",)),
    OddJson("Python's None", written("note", "None"), ("line",)),
    OddJson("two lists", lambda given: dumped(given) + dumped(given), ("line 1",)),
    OddJson(
        "two lists, a line each", lambda given: dumped(given) + b"\n" + dumped(given), ("2|list",)
    ),
    OddJson("a line end in a text", written("note", '"a\nb"'), ("line",)),
    OddJson("a tab in a text", written("note", '"a\tb"'), ("line",)),
    OddJson("a wrong escape", written("note", '"C:\\data"'), ("line",)),
    OddJson("a page of a server", lambda given: b"<!DOCTYPE html><html>404</html>", ("line 1",)),
    OddJson(
        "a pointer of Git LFS",
        lambda given: b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 9\n",
        ("line 1|lfs",),
    ),
    OddJson("packed", lambda given: gzip.compress(dumped(given)), ("UTF-8|gzip|packed",)),
    OddJson("a table", lambda given: b"subject,answer\nBernau,Lehrte\n", ("line 1",)),
    OddJson("YAML", lambda given: b"- subject: Bernau\n  image: a.png\n", ("line 1",)),
    OddJson("zeros behind", lambda given: dumped(given) + b"\0" * 512, ("line 1",)),
    OddJson("zeros", lambda given: b"\0" * 512, ("line 1|zero|encod",)),
    # Encodings
    OddJson("UTF-16", lambda given: dumped(given).decode().encode("utf-16"), ("UTF-16", "UTF-8")),
    OddJson(
        "UTF-16, no mark",
        lambda given: dumped(given).decode().encode("utf-16-le"),
        ("UTF-16|UTF-8",),
    ),
    OddJson(
        "UTF-16, other order",
        lambda given: codecs.BOM_UTF16_BE + dumped(given).decode().encode("utf-16-be"),
        ("UTF-16", "UTF-8"),
    ),
    OddJson(
        "UTF-32", lambda given: dumped(given).decode().encode("utf-32"), ("UTF-32|UTF-16|UTF-8",)
    ),
    OddJson(
        "Latin-1",
        lambda given: json.dumps([{**r, "note": "é"} for r in given], ensure_ascii=False).encode(
            "latin-1"
        ),
        ("UTF-8",),
    ),
    OddJson("one wrong byte", lambda given: dumped(given)[:-1] + b'  , "\xff"]', ("UTF-8",)),
    OddJson("half a letter", lambda given: dumped(given)[:-1] + b', "\xc3"]', ("UTF-8",)),
    # Numbers and keys
    OddJson("NaN", written("note", "NaN"), ("NaN", "line")),
    OddJson("NaN as an answer", changed("knowledge_edit.answer_new", float("nan")), ("NaN",)),
    OddJson("Infinity", written("note", "Infinity"), ("Infinity", "line")),
    OddJson("-Infinity", written("note", "-Infinity"), ("Infinity", "line")),
    OddJson("1e400", written("note", "1e400"), ("1e400", "line")),
    OddJson("5000 digits", written("note", "9" * 5000), ("digits|large", "line|record")),
    OddJson("a key twice", twice("entity_type", '"town"'), ("entity_type", "twice|more than once")),
    OddJson("a key twice, same value", twice("entity_type", '"company"'), ("entity_type",)),
    OddJson("100,000 deep", written("note", "[" * 100_000 + "]" * 100_000), ("deep|nested",)),
    OddJson("100,000 deep, unclosed", lambda given: b"[" * 100_000, ("deep|nested|line",)),
    # Other content
    OddJson("an object", lambda given: dumped({"records": given}), ("list",)),
    OddJson("one record alone", lambda given: dumped(given[0], indent=1), ("list",)),
    OddJson("a text", lambda given: b'"records"', ("list",)),
    OddJson("a number", lambda given: b"3", ("list",)),
    OddJson("null", lambda given: b"null", ("list",)),
    OddJson("true", lambda given: b"true", ("list",)),
    OddJson("an empty list", lambda given: b"[]", ("list",)),
    OddJson("an empty object", lambda given: b"{}", ("list",)),
    OddJson("a list of lists", lambda given: dumped([given]), ("record 0",)),
    OddJson("a list of texts", lambda given: dumped(["Bernau"]), ("record 0",)),
    OddJson("a record is null", lambda given: dumped([given[0], None]), ("record 1",)),
    OddJson("a record is empty", lambda given: dumped([given[0], {}]), ("record 1", "subject")),
    OddJson(
        "JSON lines, one is null", lambda given: lines([*given[:2], None]), ("record 2|line 3",)
    ),
    OddJson("the same record twice", lambda given: dumped([*given, given[1]]), ("Bernau",)),
    OddJson("all records twice", lambda given: dumped([*given, *given]), ("Bernau|Altmark",)),
    OddJson("JSON lines, one twice", lambda given: lines([*given, given[0]]), ("Altmark",)),
)

_REQUIRED = (
    "subject",
    "entity_type",
    "knowledge_edit",
    "knowledge_edit.question",
    "knowledge_edit.image_question",
    "knowledge_edit.answer_new",
    "knowledge_edit.answer_true",
    "rephrase_question",
    "rephrase_question.rephrase_question",
    "one_hop_question",
    "one_hop_question.answer_new",
    "same_type_entity_question",
    "same_type_entity_question.same_type_entity",
    "diff_type_entity_question",
    "diff_type_entity_question.answer",
    "locality_question",
    "locality_question.answer",
    "image_locality_question.question",
    "image",
    "image_rephrase",
    "same_entity_image",
    "diff_entity_image",
    "locality_image",
)
_WRONG: tuple[tuple[str, object], ...] = (
    ("subject", 7),
    ("subject", None),
    ("subject", ["Bernau"]),
    ("subject", ""),
    ("subject", " \t"),
    ("subject", True),
    ("entity_type", {}),
    ("knowledge_edit", "Where?"),
    ("knowledge_edit", []),
    ("knowledge_edit", None),
    ("knowledge_edit.answer_new", 1999),
    ("knowledge_edit.answer_new", ""),
    ("knowledge_edit.answer_new", ["Peine", "Soest"]),
    ("knowledge_edit.question", None),
    ("rephrase_question", 0.5),
    ("one_hop_question", []),
    ("locality_question.answer", "\n"),
    ("image", 3),
    ("image", ""),
    ("image", ["a.png"]),
    ("single_hops", {}),
    ("single_hops", "x"),
    ("single_hops", [1]),
    ("new_single_hops", [{"question": "?"}]),
    ("multimodal_hops", None),
)

FIELDS = (
    *(OddJson(f"no {name}", without(name), ("record 1", name)) for name in _REQUIRED),
    *(
        OddJson(f"{name} is {value!r}", changed(name, value), ("record 1", name))
        for name, value in _WRONG
    ),
)
"""Fields that are missing or of another type."""

TEXTS = (
    OddJson("half an emoji", changed("subject", "Bernau \ud83d"), ("Bernau|record 1",)),
    OddJson(
        "half an emoji in an answer", changed("knowledge_edit.answer_new", "\udc00"), ("record 1",)
    ),
)
"""Letters that no file can hold: what JSON may spell and UTF-8 may not."""


def all_json() -> dict[str, OddJson]:
    """Every odd file by name."""
    return {entry.name: entry for entry in (*SOUND, *BROKEN, *FIELDS, *TEXTS)}
