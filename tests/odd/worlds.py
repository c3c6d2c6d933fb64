"""Odd world folders: `entities.json` and `world.json` that other people wrote."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.odd.cases import BASE, with_words
from tests.odd.harness import Case, Expected, Refused, Runs
from tests.odd.json_files import dumped, lines
from tests.odd.records import IMAGES, entities, write_world

WORLD = with_words(
    BASE, "data=folder", "data.root=world", "editor=none", "scenario=multimodal",
    "data.filter_known=none", "data.limit=2",
)  # fmt: skip
Entities = list[dict[str, Any]]
_SOUND = Runs("world")


def world_cases() -> list[Case]:
    """A world folder of every odd kind, through `evaluate.py`."""
    of_entities = [_of_entities(name, change, expected) for name, change, expected in _ENTITIES]
    return of_entities + [_of_world(name, text, expected) for name, text, expected in _WORLDS]


def _of_entities(name: str, change: Callable[[Entities], bytes], expected: Expected) -> Case:
    def prepare(folder: Path) -> None:
        (write_world(folder / "world") / "entities.json").write_bytes(change(entities()))

    return Case(f"entities.json: {name}", WORLD, expected, prepare=prepare)


def _of_world(name: str, content: bytes, expected: Expected) -> Case:
    def prepare(folder: Path) -> None:
        (write_world(folder / "world") / "world.json").write_bytes(content)

    return Case(f"world.json: {name}", WORLD, expected, prepare=prepare)


def _with(number: int, **fields: Any) -> Callable[[Entities], bytes]:
    def change(given: Entities) -> bytes:
        given[number] |= fields
        return dumped(given)

    return change


_FILE = "entities.json"
_ENTITIES: tuple[tuple[str, Callable[[Entities], bytes], Expected], ...] = (
    ("as it is", dumped, _SOUND),
    ("byte order mark", lambda given: codecs.BOM_UTF8 + dumped(given), _SOUND),
    ("CRLF", lambda given: dumped(given, indent=1).replace(b"\n", b"\r\n"), _SOUND),
    ("JSON lines", lines, _SOUND),
    ("fields of its own", _with(0, note={"a": [1]}), _SOUND),
    (
        "an attribute of another type",
        _with(0, attributes={"a": "b"}),
        Refused((_FILE, "attributes")),
    ),
    ("UTF-16", lambda given: dumped(given).decode().encode("utf-16"), Refused((_FILE, "UTF-"))),
    ("cut", lambda given: dumped(given)[:-9], Refused((_FILE, "line 1"))),
    ("empty", lambda given: b"", Refused((_FILE,))),
    ("an empty list", lambda given: b"[]", Refused((_FILE, "empty"))),
    ("an object", lambda given: dumped({"entities": given}), Refused((_FILE, "list"))),
    ("null", lambda given: b"null", Refused((_FILE, "list"))),
    ("an entity is null", lambda given: dumped([*given, None]), Refused((_FILE,))),
    ("one entity", lambda given: dumped(given[:1]), Refused()),
    ("an entity twice", lambda given: dumped([*given, given[0]]), Refused((_FILE, "Altmark|C0"))),
    ("a name twice", _with(1, name="Altmark"), Refused((_FILE, "Altmark"))),
    ("an id twice", _with(1, id="C0"), Refused((_FILE, "C0"))),
    ("an id is a number", _with(1, id=1), Refused((_FILE, "id"))),
    ("a name is empty", _with(1, name=""), Refused((_FILE, "name"))),
    ("a name is blank", _with(1, name=" \n"), Refused((_FILE, "name"))),
    ("facts are a list", _with(1, facts=["Kassel"]), Refused((_FILE, "facts"))),
    ("facts are null", _with(1, facts=None), Refused((_FILE, "facts"))),
    ("a fact is a number", _with(1, facts={"seat": 1}), Refused((_FILE, "seat"))),
    ("a fact is a list", _with(1, facts={"seat": ["a", "b"]}), Refused((_FILE, "seat"))),
    ("a fact is null", _with(1, facts={"seat": None}), Refused((_FILE, "seat"))),
    ("a relation has no name", _with(1, facts={"": "Kassel"}), Refused((_FILE, "facts"))),
    ("images are a list", _with(1, images=["a.png"]), Refused((_FILE, "images"))),
    (
        "an image is missing",
        _with(1, images={"front": "no.png", "side": "no2.png"}),
        Refused(("no.png",)),
    ),
    ("an image is a folder", _with(1, images={"front": IMAGES, "side": "."}), Refused((IMAGES,))),
    ("no facts", lambda given: dumped([{**e, "facts": {}} for e in given]), Refused((_FILE,))),
    ("no images", lambda given: dumped([{**e, "images": {}} for e in given]), Refused()),
    (
        "NaN",
        lambda given: dumped([{**given[0], "note": float("nan")}, *given[1:]]),
        Refused((_FILE, "NaN")),
    ),
    ("100,000 deep", lambda given: b"[" * 100_000, Refused((_FILE,))),
    (
        "a key twice",
        lambda given: dumped(given).replace(b'"id"', b'"id": "X", "id"', 1),
        Refused((_FILE, "id")),
    ),
    ("half an emoji", _with(1, name="Ber\ud83d"), Refused((_FILE, "name"))),
)
_WORLD = "world.json"
_WORLDS: tuple[tuple[str, bytes, Expected], ...] = (
    ("an empty object", b"{}", _SOUND),
    ("byte order mark", codecs.BOM_UTF8 + b"{}", _SOUND),
    ("empty", b"", Refused((_WORLD,))),
    ("a list", b"[]", Refused((_WORLD,))),
    ("null", b"null", Refused((_WORLD,))),
    ("an unknown key", b'{"noun": {}}', Refused((_WORLD, "noun"))),
    ("an unknown relation", b'{"relations": {"colour": {}}}', Refused((_WORLD, "colour"))),
    ("an unknown view", b'{"views": {"unseen": ["above"]}}', Refused((_WORLD, "unseen"))),
    ("no unseen view", b'{"views": {"unseen": []}}', Refused((_WORLD,))),
    (
        "a wording without subject",
        b'{"relations": {"seat": {"wordings": ["Where?", "Which?"]}}}',
        Refused((_WORLD, "seat")),
    ),
    (
        "a wording with another place",
        b'{"relations": {"seat": {"wordings": ["Where is {x}?"]}}}',
        Refused((_WORLD, "seat")),
    ),
    (
        "a wording with an open brace",
        b'{"relations": {"seat": {"wordings": ["Where is {s?"]}}}',
        Refused((_WORLD, "seat")),
    ),
    ("hops of unknown relations", b'{"hops": [["seat", "river"]]}', Refused((_WORLD, "river"))),
    ("a hop of three", b'{"hops": [["seat", "founder", "seat"]]}', Refused((_WORLD, "hops"))),
    ("a noun is a number", b'{"nouns": {"company": 3}}', Refused((_WORLD, "nouns"))),
    ("a comma before }", b'{"nouns": {},}', Refused((_WORLD, "comma"))),
)
