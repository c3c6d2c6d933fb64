"""Odd paths: names of folders and files in every place where a command takes one.

A path that is typed is the path that is used, byte for byte, or one sentence says how to quote it;
in quotes every name works.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

from tests.odd.cases import PICTURES, TEXT, with_words
from tests.odd.harness import TINY, Case, Either, Expected, Refused, Runs
from tests.odd.records import FILE, IMAGES

COMPOSED = unicodedata.normalize("NFC", "Kölsch über Ängste")
DECOMPOSED = unicodedata.normalize("NFD", COMPOSED)
NAMES = (
    "with blank", " blank before", "blank behind ", "two  blanks", "tab\there", "line\nend",
    "a=b", "=", "a,b", "a, b", "[a]", "[a,b]", "[1]", "{a}", "{a:1}", "(a)", "f(a)", "glob(a)",
    "[red]bold[/red]", "[/]", "[bold]", "a[0]", COMPOSED, DECOMPOSED, "日本語", "Ελλάδα", "fox 🦊",
    "~", "~root", "~/a", "s3:", "a~b", "a~", "2026_11_24", "2026-11-24", "20261124", "1e5",
    "1_000", "0x10", "007", "1.0", "1.50", "-1", "+1", "null", "true", "False", "off", "None",
    "nan", "inf", "#hash", "a#b", "a %23b", "100%", "%s", "a&b", "$HOME", "a$b", "$", "it's",
    'say "x"', "back\\slash", "\\", "a:b", "12:30", "a;b", "a*b", "a?b", "*", "-dash", "--dash",
    "+plus", "@at", "a@b", "!bang", "a|b", "a<b>", "`x`", "^", ".hidden", "dots..", "x" * 200,
    "ü" * 120, "caf\udce9",
)  # fmt: skip
"""The last one is in Latin-1, as old archives have it."""

_LIKE_VALUES = (
    "2026_11_24", "2026-11-24", "1e5", "1_000", "007", "1.50", "-1", "true", "off", "nan", "12:30",
)  # fmt: skip
"""Names that YAML or Hydra would read as numbers, dates or switches."""
_WITH_MEANING = {"null", "${seed}", "*", "$", "[1]", "[a]", "[a,b]", "{a:1}", "glob(a)"}
_FEW = (
    "with blank", "a=b", "[red]bold[/red]", "[/]", COMPOSED, DECOMPOSED, "2026_11_24", "1e5",
    "null", "it's", "12:30", "a~b", "caf\udce9", "100%", "fox 🦊", "{a}", "a,b",
)  # fmt: skip


def quoted(name: str) -> str:
    """A name in the quotes of Hydra's grammar: backslashes in front of a quote stand twice."""
    inner = re.sub(r"(\\*)('|$)", lambda m: m[1] * 2 + ("\\'" if m[2] else ""), name)
    return f"'{inner}'"


def path_cases() -> list[Case]:
    """Every name typed and in quotes, and names of pictures in the records and on disk."""
    cases = [_root(name, is_quoted=is_quoted) for name in NAMES for is_quoted in (False, True)]
    cases += [
        _output(name, is_quoted=False) for name in dict.fromkeys((*NAMES[::3], *_LIKE_VALUES))
    ]
    cases += [_output(name, is_quoted=True) for name in _FEW]
    cases += [make(name) for name in _FEW for make in (_model, _images, _file, _checkpoint)]
    return cases + _picture_names()


def _label(key: str, name: str, *, is_quoted: bool) -> str:
    return f"{key} {name.encode('utf-8', 'surrogateescape')!r}{' in quotes' if is_quoted else ''}"


def _expected(name: str, *, is_quoted: bool, clean: str = "text") -> Expected:
    runs = Runs(clean)
    if name.split("/")[0] == "~":  # the home folder, where nothing is
        return Refused()
    if "\udce9" in name:
        return Refused(("UTF-8",))
    if is_quoted:
        return runs
    refused = Refused() if name in _WITH_MEANING else Refused(("quot",))
    return Either(runs, refused)


def _typed(key: str, name: str, *, is_quoted: bool) -> str:
    return f"{key}={quoted(name) if is_quoted else name}"


def _root(name: str, *, is_quoted: bool) -> Case:
    words = with_words(TEXT, _typed("data.root", name, is_quoted=is_quoted))
    return Case(
        _label("data.root", name, is_quoted=is_quoted),
        words,
        _expected(name, is_quoted=is_quoted),
        prepare=lambda folder: _move(folder / "data", folder / name),
    )


def _output(name: str, *, is_quoted: bool) -> Case:
    words = with_words(TEXT, _typed("output_dir", name, is_quoted=is_quoted))
    label = _label("output_dir", name, is_quoted=is_quoted)
    expected = _expected(name, is_quoted=is_quoted)
    return Case(label, words, expected, out=name, risks_a_run=False)


def _move(before: Path, after: Path) -> None:
    """Gives a folder another name, which may lie in folders that are not there."""
    after.parent.mkdir(parents=True, exist_ok=True)
    before.rename(after)


def _model(name: str) -> Case:
    def prepare(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).symlink_to(TINY)

    words = with_words(TEXT, _typed("model.path", f"./{name}", is_quoted=True))
    return Case(
        _label("model.path", name, is_quoted=True),
        words,
        _expected(name, is_quoted=True),
        prepare=prepare,
    )


def _images(name: str) -> Case:
    words = with_words(PICTURES, _typed("data.image_root", name, is_quoted=True))
    return Case(
        _label("data.image_root", name, is_quoted=True),
        words,
        _expected(name, is_quoted=True, clean="pictures"),
        prepare=lambda folder: _move(folder / "data" / IMAGES, folder / name),
    )


def _file(name: str) -> Case:
    words = with_words(TEXT, f"data.files=[{quoted(name)}]")
    return Case(
        _label("data.files", name, is_quoted=True),
        words,
        _expected(name, is_quoted=True),
        prepare=lambda folder: _move(folder / "data" / FILE, folder / "data" / name),
    )


def _checkpoint(name: str) -> Case:
    """There is none: the message names it as it was typed."""
    words = (*TEXT[:-3], _typed("ckpt", f"{name}.ckpt", is_quoted=True))
    shown = name if name.isascii() and "'" not in name else ""
    says = (_literally(f"{shown}.ckpt"),)
    return Case(_label("ckpt", name, is_quoted=True), words, Refused(says))


def _literally(text: str) -> str:
    return "".join(f"\\{letter}" if not letter.isalnum() else letter for letter in text)


_ON_DISK = {
    "blank": ("my a.png", "my a.png"),
    "composed, decomposed on disk": (f"{COMPOSED}.png", f"{DECOMPOSED}.png"),
    "decomposed, composed on disk": (f"{DECOMPOSED}.png", f"{COMPOSED}.png"),
    "a folder decomposed on disk": (f"{COMPOSED}/a.png", f"{DECOMPOSED}/a.png"),
    "Japanese": ("日本.png", "日本.png"),
    "brackets": ("[/red]a[bold].png", "[/red]a[bold].png"),
    "percent": ("a%20b.png", "a%20b.png"),
    "glob": ("a*?.png", "a*?.png"),
    "200 letters": ("x" * 200 + ".png", "x" * 200 + ".png"),
}
_NOT_ON_DISK = {
    "dots": ("./sub/../a1.png", "a1.png"),
    "above": ("../a1.png", "../a1.png"),
    "backslash": ("sub\\a.png", "sub\\a.png"),
    "another case": ("A1.PNG", "a1.png"),
    "another ending": ("a1.jpg", "a1.png"),
    "backslash for a folder": ("sub\\a1.png", "sub/a1.png"),
    "brackets, missing": ("[/red]a1.png", "a1.png"),
    "300 letters": ("x" * 300 + ".png", "a1.png"),
    "half an emoji": ("\ud83d.png", "a1.png"),
    "a zero": ("a\0.png", "a1.png"),
    "a folder": (".", "a1.png"),
    "an address": ("https://example.org/a1.png", "a1.png"),
}


def _picture_names() -> list[Case]:
    """Names of a picture in the records and on disk."""
    sound = [
        Case(f"picture: {what}", PICTURES, Runs("pictures"), prepare=_renamed(*names))
        for what, names in _ON_DISK.items()
    ]
    return sound + [
        Case(f"picture: {what}", PICTURES, Refused(), prepare=_renamed(*names))
        for what, names in _NOT_ON_DISK.items()
    ]


def _renamed(in_record: str, on_disk: str) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        images = folder / "data" / IMAGES
        (images / "sub").mkdir()
        (images / on_disk).parent.mkdir(exist_ok=True)
        (images / "a.png").rename(images / on_disk)
        file = folder / "data" / FILE
        entries = json.loads(file.read_text())
        for entry in entries:
            entry["image"] = in_record
        file.write_text(json.dumps(entries))

    return prepare
