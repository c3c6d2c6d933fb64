"""Reading world folders: defaults, splits, questions, and every kind of broken folder."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from datamodules.world import World
from errors import DataError

ROOT = Path(__file__).resolve().parents[3]
COUNTRIES = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared")) / "data/world_countries"


def towns(n: int = 10, views: tuple[str, ...] = ("a", "b", "c")) -> list[dict[str, Any]]:
    """A ring of towns with a river and a neighbour each."""
    return [
        {
            "id": f"t{i}",
            "name": f"Town {i}",
            "facts": {"main_river": f"River {i % 3}", "twin": f"Town {(i + 1) % n}"},
            "images": {view: f"images/t{i}_{view}.png" for view in views},
        }
        for i in range(n)
    ]


def write(folder: Path, entities: object, world: object = None) -> Path:
    (folder / "images").mkdir(exist_ok=True)
    (folder / "entities.json").write_text(json.dumps(entities))
    if world is not None:
        (folder / "world.json").write_text(json.dumps(world))
    for entity in entities if isinstance(entities, list) else []:
        images = entity.get("images", {}) if isinstance(entity, dict) else {}
        for path in images.values():
            (folder / path).write_bytes(b"not opened by the reader")
    return folder


def test_plain_folder_gets_sensible_defaults(tmp_path: Path) -> None:
    world = World.load(write(tmp_path, towns()))
    assert world.types == ["entity"]
    assert world.in_image("Town 0") == "the entity in the image"
    river = world.relations["main_river"]
    assert len(set(river.wordings)) == 6
    assert world.question("main_river", 0, "Town 4") == "What is the main river of Town 4?"
    assert (river.hop, river.objects) == (False, ["River 0", "River 1", "River 2"])
    assert world.relations["twin"].hop
    assert world.hops == [("twin", "main_river")]
    assert world.two_hop_question("twin", "main_river", 1, "Town 4") == (
        "Which main river does the twin of Town 4 have?"
    )
    assert world.no_such_answer("entity") == "Sorry, there is no entity in the image"


def test_few_objects_that_happen_to_be_entities_make_no_hop_relation(tmp_path: Path) -> None:
    entities = towns(6)
    entities[0]["facts"]["main_river"] = "Town 5"  # one of four rivers is called like a town
    world = World.load(write(tmp_path, entities))
    assert not world.relations["main_river"].hop
    assert world.hops == [("twin", "main_river")]


def test_noun_of_untyped_entities_can_be_chosen(tmp_path: Path) -> None:
    world = World.load(write(tmp_path, towns(), {"nouns": {"entity": "place"}}), noun="town")
    assert world.in_image("Town 0") == "the town in the image"
    assert World.load(tmp_path).noun("entity") == "place"


def test_sentence_that_opens_with_the_subject_keeps_its_capital(tmp_path: Path) -> None:
    wordings = ["{s} lies on which river?", "Name the river of {s}."]
    world = World.load(
        write(tmp_path, towns(), {"relations": {"main_river": {"wordings": wordings}, "twin": {}}})
    )
    assert world.question("main_river", 0, "eTown") == "eTown lies on which river?"
    assert world.question("main_river", 0, world.in_image("Town 1")) == (
        "The entity in the image lies on which river?"
    )


@pytest.mark.parametrize(("n_views", "n_unseen"), [(2, 1), (5, 1), (9, 1), (10, 2), (48, 9)])
def test_last_fifth_of_the_views_is_unseen(tmp_path: Path, n_views: int, n_unseen: int) -> None:
    views = tuple(f"v{i:02d}" for i in range(n_views))
    entity = World.load(write(tmp_path, towns(4, views))).entities["Town 0"]
    names = [path.stem.removeprefix("t0_") for path in [*entity.seen, *entity.unseen]]
    assert names == list(views)
    assert len(entity.unseen) == n_unseen


def test_views_can_be_told(tmp_path: Path) -> None:
    world = World.load(write(tmp_path, towns(), {"views": {"unseen": ["a"]}}))
    entity = world.entities["Town 3"]
    assert [p.name for p in entity.unseen] == ["t3_a.png"]
    assert [p.name for p in entity.seen] == ["t3_b.png", "t3_c.png"]


@pytest.mark.parametrize(
    ("n", "counts"),
    [
        (3, {"test": 1, "val": 1, "train": 1}),
        (10, {"test": 5, "val": 1, "train": 4}),
        (50, {"test": 25, "val": 5, "train": 20}),
        (51, {"test": 25, "val": 5, "train": 21}),
    ],
)
def test_split_sizes(tmp_path: Path, n: int, counts: dict[str, int]) -> None:
    world = World.load(write(tmp_path, towns(n)))
    assert Counter(world.split(name) for name in world.entities) == counts
    assert sum(len(world.members(split)) for split in ("train", "val", "test")) == n


def test_splits_depend_on_the_seed_alone(tmp_path: Path) -> None:
    write(tmp_path, towns(30))
    first = World.load(tmp_path, seed=1)
    write(tmp_path, towns(30)[::-1])
    second, third = World.load(tmp_path, seed=1), World.load(tmp_path, seed=2)
    assert [first.split(n) for n in first.entities] == [second.split(n) for n in first.entities]
    assert [first.split(n) for n in first.entities] != [third.split(n) for n in first.entities]


def test_every_type_is_halved(tmp_path: Path) -> None:
    entities = towns(20)
    for i, entity in enumerate(entities):
        entity["type"] = "town" if i < 8 else "port"
    world = World.load(write(tmp_path, entities))
    assert (len(world.members("test", "town")), len(world.members("test", "port"))) == (4, 6)


def test_digest_follows_pictures_and_facts(tmp_path: Path) -> None:
    write(tmp_path, towns())
    before = World.load(tmp_path).digest
    assert World.load(tmp_path).digest == before
    (tmp_path / "images/t0_a.png").write_bytes(b"another picture")
    changed = World.load(tmp_path).digest
    assert changed != before
    write(tmp_path, towns(), {"nouns": {"entity": "town"}})
    assert World.load(tmp_path).digest not in (before, changed)


def test_digest_is_of_what_the_folder_holds_wherever_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Results of earlier versions name worlds by it."""
    entities = towns(views=("a", "b/c", "b-c"))
    for entity in entities:
        for path in entity["images"].values():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    write(tmp_path, entities)
    expected = hashlib.sha256()
    pictures = sorted(path for path in (tmp_path / "images").rglob("*") if path.is_file())
    for path in (tmp_path / "entities.json", *pictures):
        content = path.read_bytes()
        expected.update(f"{path.relative_to(tmp_path).as_posix()}:{len(content)}\n".encode())
        expected.update(content)
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path, Path("."), Path("..") / tmp_path.name):
        world = World.load(root)
        assert world.digest == expected.hexdigest()
        town = world.entities["Town 0"]
        assert world.name_of(town.images["b/c"]) == "images/t0_b/c.png"


def replaced(index: int, **fields: object) -> list[dict[str, Any]]:
    entities = towns(4)
    entities[index] |= fields
    return entities


def without(index: int, key: str) -> list[dict[str, Any]]:
    entities = towns(4)
    del entities[index][key]
    return entities


BAD_ENTITIES = {
    "not a list": (
        {"a": 1},
        r"entities\.json should hold a list of entities, and holds one object",
    ),
    "empty list": ([], r"should hold a list of entities, and holds an empty list"),
    "no facts": ([{"id": "a", "name": "A", "facts": {}}], r"1 entities without any fact"),
    "no name": (without(2, "name"), r"entities\.json: entity 2: name is missing\. Accepted"),
    "no facts key": (without(1, "facts"), r"entity 1 \(Town 1\): facts is missing"),
    "number": (replaced(3, facts={"year": 1919}), r"entity 3 \(Town 3\): facts\.year is 1919: "),
    "blank name": (replaced(0, name=" "), r"entity 0 \( \): name is ' '"),
    "same name": (replaced(2, name="Town 0"), r"'name' .*'Town 0' at the indices \[0, 2\]"),
    "same id": (replaced(2, id="t1"), r"'id' .*'t1' at the indices \[1, 2\]"),
    "same name in other letters": (
        replaced(2, name="TOWN  0"),
        r"'name' .*'Town 0' and 'TOWN  0' at the indices \[0, 2\]",
    ),
    "backslash": (
        replaced(1, images={"a": "images\\x.png"}),
        r"images\.a of entity 1 .*no backslash",
    ),
    "no object": ([3], r"entity 0 is 3"),
    "one view": (replaced(1, images={"a": "images/x.png"}), r"'Town 1' has the views a .*no seen"),
    "outside": (replaced(1, images={"a": "../x.png"}), r"images\.a of entity 1 .*'\.\./x\.png'"),
}


@pytest.mark.parametrize("case", BAD_ENTITIES)
def test_bad_entities_are_named(tmp_path: Path, case: str) -> None:
    entities, message = BAD_ENTITIES[case]
    (tmp_path / "world").mkdir()
    with pytest.raises(DataError, match=message):
        World.load(write(tmp_path / "world", entities))


def test_many_mistakes_come_in_one_message(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"entity 0: name is missing; .*\(and 3 more\)"):
        World.load(write(tmp_path, [{} for _ in range(2)] + [{"name": "A"}]))


BAD_WORLDS = {
    "list": ([1], r"world\.json: the file is \[1\]: .*nouns, relations"),
    "unknown key": ({"noun": {}}, r"noun is no known key\. Accepted fields: nouns, relations"),
    "unknown relation": (
        {"relations": {"twin": {}}},
        r"entity 0 .*'main_river', which world\.json",
    ),
    "wrong type": (
        {"relations": {"twin": {"subject_type": "man"}, "main_river": {}}},
        r"entity 0 \(Town 0\) is of type 'entity' .*'twin'.*to the type 'man'",
    ),
    "one wording": ({"relations": {"twin": {"wordings": ["Who {s}?"]}}}, r"twin\.wordings has 1 "),
    "twice the same": (
        {"relations": {"twin": {"wordings": ["Who {s}?", "Who {s}?"]}}},
        r"has 2 wordings, 1 of them different",
    ),
    "no placeholder": (
        {"relations": {"twin": {"wordings": ["Who {s}?", "Who?"]}}},
        r"relations\.twin: 'Who\?' holds the placeholder \{s\} 0 times",
    ),
    "hop phrase": (
        {"relations": {"twin": {"hop_phrase": "twin"}}},
        r"'twin' holds the placeholder",
    ),
    "unknown hop": ({"hops": [["twin", "king"]]}, r"hops names the relation 'king'"),
    "dead end": ({"hops": [["main_river", "twin"]]}, r"objects of 'main_river' are not entities"),
    "views overlap": ({"views": {"seen": ["a", "b"], "unseen": ["b"]}}, r"lists b as seen and as"),
    "no such view": ({"views": {"unseen": ["z"]}}, r"'Town 0' has the views a, b, c .*no unseen"),
}


@pytest.mark.parametrize("case", BAD_WORLDS)
def test_bad_world_files_are_named(tmp_path: Path, case: str) -> None:
    world, message = BAD_WORLDS[case]
    with pytest.raises(DataError, match=message):
        World.load(write(tmp_path, towns(4), world))


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    write(tmp_path, towns(4))
    for path in ("t0_b", "t2_a", "t2_b", "t2_c", "t3_a", "t3_b"):
        (tmp_path / f"images/{path}.png").unlink()
    message = r"6 of 12 pictures .*first: images/t0_b\.png, images/t2_a\.png.*images/t3_a\.png\. "
    with pytest.raises(DataError, match=message):
        World.load(tmp_path)


def test_broken_json_names_its_line(tmp_path: Path) -> None:
    (tmp_path / "entities.json").write_text('[{"id": "a",\n "name": }]')
    with pytest.raises(
        DataError, match=r"entities\.json is not valid JSON: at line 2, column 10 expecting value"
    ):
        World.load(tmp_path)


def test_other_encoding_names_its_byte(tmp_path: Path) -> None:
    (tmp_path / "entities.json").write_bytes('[{"name": "Côte"}]'.encode("latin-1"))
    with pytest.raises(DataError, match=r"byte 0xf4 at line 1, column 13"):
        World.load(tmp_path)


def test_missing_folder_says_what_a_world_is(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere/entities\.json: the file is missing.*data\.root"):
        World.load(tmp_path / "nowhere")


@pytest.mark.skipif(not COUNTRIES.is_dir(), reason=f"no countries world at {COUNTRIES}")
def test_countries_world_is_read_as_it_is() -> None:
    world = World.load(COUNTRIES, noun="country")
    assert len(world.pictured) == 166
    assert len(world.facts) == 1964
    assert {path.stem.split("_")[1] for e in world.pictured for path in e.unseen} == {"waved"}
    assert {len(entity.seen) for entity in world.pictured} == {4}
    assert [name for name, r in world.relations.items() if r.hop] == ["largest_neighbour"]
    assert len(world.hops) == 11
    assert world.question("driving_side", 0, world.in_image("Japan")) == (
        "What is the driving side of the country in the image?"
    )
    assert world.two_hop_question("largest_neighbour", "capital", 0, "Portugal") == (
        "What is the capital of the largest neighbour of Portugal?"
    )
