"""Reading JSON files of data: every mistake names the file, the line and the column.

Lists of records may be Parquet as well, whose rows are the same objects (parquet_file.py).

A file is UTF-8 text (RFC 8259) with or without a byte order mark. Records are one list, or JSON
lines: objects one after the other. What Python's reader lets pass in silence is refused here: NaN
and infinities, numbers beyond 64-bit floats, and a key that stands twice in one object.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from errors import DataError

LINES_SUFFIX = ".jsonl"  # of files that hold an object a line, be it a single one
JSON_SUFFIXES = (".json", LINES_SUFFIX)
PARQUET_SUFFIX = ".parquet"
SUFFIXES = (*JSON_SUFFIXES, PARQUET_SUFFIX)  # of files of records

_SPACE = re.compile(r"[ \t\r\n]*")
_TOKEN = re.compile(
    r'(?P<text>"[^"\\]*(?:\\.[^"\\]*)*")(?P<key>[ \t\r\n]*:)?|(?P<open>[{\[])|(?P<close>[}\]])'
    r"|(?P<number>NaN|-?Infinity|-?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)",
    re.DOTALL,
)
_TRAILING_COMMA = re.compile(r",[ \t\r\n]*([}\]])")
_AGAIN = "Write or fetch it again."
_DEEP = 100
_SHOWN = 40  # characters of a value
_KINDS = {
    dict: "one object", list: "a list", str: "a text", bool: "true or false", type(None): "null",
}  # fmt: skip
# How files begin that are no JSON, and what to do about them.
_OTHER_KINDS = {
    "version https://git-lfs": "it is a pointer of Git LFS. Fetch its content with `git lfs pull`",
    "\x1f\x8b": "it is compressed with gzip. Unpack it first",
    "PK\x03\x04": "it is a zip archive. Unpack it first",
    "<": "it is a web page or XML. Fetch the file itself",
}
# What stands where a value or a key should begin.
_HINTS = {
    "'": "JSON has double quotes alone",
    "/": "JSON has no comments",
    "#": "JSON has no comments",
    ",": "a comma stands where a value should",
    "T": "JSON writes true",
    "F": "JSON writes false",
    "N": "JSON writes null",
}


class Element(NamedTuple):
    """One element of a list of records.

    Attributes:
        line: the line where it begins, from 1; None in a file that is one list.
        mistake: why the line is no JSON, where broken lines are asked for; there is no value then.
    """

    value: Any
    line: int | None
    mistake: str | None = None


class _UnusableError(ValueError):
    """The text holds what `_unusable` finds."""


def read_json(path: Path) -> Any:
    """The content of a file that holds one value.

    Raises:
        DataError: it cannot be read, is not UTF-8 or not JSON.
    """
    text = _text(path)
    value, end = _value(path, text, 0)
    if end < len(text):
        _refuse(path, text, end, "more text follows the end of its value. Leave one value there")
    return value


def read_list(path: Path, what: str, *, broken_lines: bool = False) -> list[Element]:
    """The elements of a file of records; else as `elements`."""
    return list(elements(path, what, broken_lines=broken_lines))


def elements(path: Path, what: str, *, broken_lines: bool = False) -> Iterator[Element]:
    """The elements of a file that holds a list, or objects one after the other (JSON lines).

    One is made when it is asked for, and a mistake is told when its turn comes. A *.parquet file
    has a row for each.

    Args:
        path: the file.
        what: its elements in a word, for messages: `records`.
        broken_lines: whether lines of a *.jsonl that are no JSON come back as elements with a
            mistake, and are no error.

    Raises:
        DataError: it cannot be read, is not UTF-8, not JSON, or neither a list of something nor
            JSON lines.
    """
    suffix = path.suffix.lower()
    if suffix == PARQUET_SUFFIX:
        from datamodules.parquet_file import read_rows

        yield from (Element(row, None) for row in read_rows(path))
        return
    text = _text(path)
    if broken_lines and suffix == LINES_SUFFIX:
        yield from _lines(path, text)
        return
    if text[_after_space(text, 0)] == "[":
        yield from _listed(path, text, what)
        return
    first, end = _value(path, text, 0)
    if isinstance(first, dict) and (suffix == LINES_SUFFIX or end < len(text)):
        yield from _elements(path, text)
        return
    kind = _KINDS.get(type(first), "a number")
    if end < len(text):
        _refuse(path, text, end, f"more text follows {kind}. Take it out")
    raise _no_list(path, what, kind)


def _no_list(path: Path, what: str, kind: str) -> DataError:
    return DataError(
        f"{path} should hold a list of {what}, and holds {kind}. Put the {what} between [ and ], "
        f"with commas between them, or write one a line into a file that ends in {LINES_SUFFIX}."
    )


def _text(path: Path) -> str:
    """The text of a file, without its byte order mark."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the file {path} cannot be read ({error.strerror}). Check its name and permissions."
        ) from None
    beginning = content[:_SHOWN].decode("latin-1").lstrip(" \t\r\n")
    for mark, kind in _OTHER_KINDS.items():
        if beginning.startswith(mark):
            raise DataError(f"{path} is not JSON: by the beginning of its line 1 {kind}.")
    if not content.strip(b"\0 \t\r\n"):
        raise DataError(
            f"{path} is empty{' but for zero bytes' if content.strip() else ''}. {_AGAIN}"
        )
    encoding = json.detect_encoding(content)
    if not encoding.startswith("utf-8"):
        name = encoding[: len("utf-16")].upper()
        raise DataError(f"{path} is {name} text, and UTF-8 is needed. Save it as UTF-8.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        # Its offsets leave the byte order mark out, and so does `error.object`.
        before = bytes(error.object[: error.start]).decode("utf-8")
        raise DataError(
            f"{path} is not UTF-8 text: byte 0x{error.object[error.start]:02x} at "
            f"{_place(before, len(before))}. It may be Latin-1 or Windows-1252: save it as UTF-8."
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty. {_AGAIN}")
    return text


def _listed(path: Path, text: str, what: str) -> Iterator[Element]:
    """The values of a list, one at a time."""
    position, last = _after_space(text, _after_space(text, 0) + 1), "["
    if text[position : position + 1] == "]":
        raise _no_list(path, what, "an empty list")
    while last != "]":
        try:
            value, position = _value(path, text, position)
        except DataError:
            _value(path, text, 0)  # says the same of the whole list
            raise
        yield Element(value, None)
        last = text[position : position + 1]
        if last not in (",", "]"):
            _value(path, text, 0)  # says what is wrong there
        position = _after_space(text, position + 1)
    if position < len(text):
        _refuse(path, text, position, "more text follows a list. Take it out")


def _elements(path: Path, text: str) -> Iterator[Element]:
    """The values that stand one after the other, each with its line."""
    start, line, counted = _after_space(text, 0), 1, 0
    while start < len(text):
        value, end = _value(path, text, start)
        line += text.count("\n", counted, start)
        yield Element(value, line)
        counted, start = start, end


def _lines(path: Path, text: str) -> Iterator[Element]:
    """The values of JSON lines; after one that is broken the next line goes on."""
    start, line, counted = _after_space(text, 0), 1, 0
    while start < len(text):
        line += text.count("\n", counted, start)
        counted = start
        try:
            value, end = _value(path, text, start)
            yield Element(value, line)
        except DataError as error:
            yield Element(None, line, str(error).rstrip("."))
            end = _after_space(text, text.find("\n", start) + 1 or len(text))
        start = end


def _value(path: Path, text: str, start: int) -> tuple[Any, int]:
    """The value that begins at `start`, and where the next thing after it begins."""
    start = _after_space(text, start)
    try:
        value, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        _refuse(path, text, *_mistake(text, error))
    except _UnusableError:
        _refuse(path, text, *_unusable(text, start))
    except RecursionError:
        _refuse(path, text, *_too_deep(text, start))
    return value, _after_space(text, end)


def _mistake(text: str, error: json.JSONDecodeError) -> tuple[int, str]:
    """Where a syntax error is, and what it is."""
    # Python 3.13 points at a comma too many itself, earlier versions at what follows.
    for comma in (error.pos, len(text[: error.pos].rstrip()) - 1):
        if comma >= 0 and (found := _TRAILING_COMMA.match(text, comma)):
            return comma, f"a comma stands before the closing {found[1]}. Take it out"
    rest = text[error.pos :].strip()
    if not rest or error.msg.startswith("Unterminated string") or _is_begun(rest):
        return error.pos, "the text ends too early: it was cut short. Write or fetch it again"
    hint = _HINTS.get(rest[0])
    what = f"{error.msg[0].lower()}{error.msg[1:]}"
    return error.pos, f"{what}{f' ({hint})' if hint else ''}. Correct it there"


def _unusable(text: str, start: int) -> tuple[int, str]:
    """Where well-formed text holds what `_DECODER` does not take, and what that is."""
    keys: list[set[str]] = []
    for token in _TOKEN.finditer(text, start):
        if token["open"]:
            keys.append(set())
        elif token["close"]:
            keys.pop()
        elif token["number"] and not _is_finite(token["number"]):
            number = _short(token["number"])
            return (
                token.start(),
                f"{number} is no number, or too large for a 64-bit float. Correct it",
            )
        elif token["key"]:
            key = json.loads(token["text"])
            if key in keys[-1]:
                twice = f"the key {_short(key)!r} stands twice in its object"
                return token.start(), f"{twice}. Leave one of them"
            keys[-1].add(key)
    raise AssertionError("the decoder refused a number or a key, and there is none")


def _too_deep(text: str, start: int) -> tuple[int, str]:
    """Where lists and objects stand too deep in each other."""
    depth, where = 0, start
    for token in _TOKEN.finditer(text, start):
        depth += bool(token["open"]) - bool(token["close"])
        if depth == _DEEP:
            where = token.start()
            break
    return where, f"lists and objects stand {_DEEP} deep in each other, and deeper. Correct it"


def _number(text: str) -> float:
    """An integer or a fraction; Python reads no integer of more than 4300 digits.

    Raises:
        _UnusableError: it is not finite.
    """
    if not _is_finite(text):
        raise _UnusableError
    return int(text) if text.removeprefix("-").isdecimal() else float(text)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON.

    Raises:
        _UnusableError: a key stands in it twice.
    """
    content = dict(pairs)
    if len(content) < len(pairs):
        raise _UnusableError
    return content


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_number, parse_float=_number, parse_constant=_number
)


def _is_finite(number: str) -> bool:
    return math.isfinite(float(number))


def _is_begun(rest: str) -> bool:
    """Whether the text ends within a word of JSON."""
    return any(word.startswith(rest) for word in ("true", "false", "null"))


def _after_space(text: str, position: int) -> int:
    return _SPACE.match(text, position).end()  # type: ignore[union-attr]  # it matches nothing, too


def _line(text: str, position: int) -> int:
    return 1 + text.count("\n", 0, position)


def _place(text: str, position: int) -> str:
    return f"line {_line(text, position)}, column {position - text.rfind(chr(10), 0, position)}"


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _refuse(path: Path, text: str, position: int, why: str) -> NoReturn:
    raise DataError(f"{path} is not valid JSON: at {_place(text, position)} {why}.")
