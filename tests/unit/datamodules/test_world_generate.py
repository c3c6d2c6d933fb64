"""The generated world: contents, pictures, re-use and refusal of folders."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.world import World, generate_world
from datamodules.world import generate as generate_module
from datamodules.world.catalogue import HOPS, NOUNS, RELATIONS, WORD_LISTS
from datamodules.world.drawing import SLOTS
from datamodules.world.names import entity_names
from errors import ConfigError, DataError

SMALL = {"seed": 3, "size": 6, "cities": 4, "seen_views": 3, "unseen_views": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate_world(tmp_path_factory.mktemp("worlds") / "small", **SMALL)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> World:
    """The default numbers of entities and facts with the fewest pictures."""
    folder = tmp_path_factory.mktemp("worlds") / "full"
    return World.load(generate_world(folder, seen_views=1, unseen_views=1))


def files_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_default_world_has_the_facts_that_the_benchmark_needs(full: World) -> None:
    assert len(full.facts) == 460
    assert Counter(entity.type for entity in full.pictured) == {
        "company": 50,
        "landmark": 50,
        "person": 50,
    }
    assert full.hops == sorted(HOPS)
    assert {name: relation.subject_type for name, relation in full.relations.items()} == {
        name: plan.subject_type for name, plan in RELATIONS.items()
    }
    assert {full.noun(type_name) for type_name in full.types} == set(NOUNS.values())


def test_final_answer_sets_are_large_and_objects_are_reused(full: World) -> None:
    for _, second in full.hops:
        assert len(full.relations[second].objects) >= 24, second
    for name, relation in full.relations.items():
        uses = Counter(value for (_, r), value in full.facts.items() if r == name)
        assert max(uses.values()) >= 2, name
        assert len(relation.objects) < sum(uses.values()), name


def test_hop_relations_are_exactly_those_that_lead_to_entities(full: World) -> None:
    hop = {name for name, relation in full.relations.items() if relation.hop}
    assert hop == {"founder", "hq", "architect", "location", "birthplace", "mayor"}


def test_catalogue_is_consistent() -> None:
    for plan in RELATIONS.values():
        assert len(set(plan.wordings)) == 6
        assert all(wording.count("{s}") == 1 for wording in plan.wordings)
        assert not any(wording.startswith("{s}") for wording in plan.wordings)
    lists = {kind: words.split() for kind, words in WORD_LISTS.items()}
    assert {kind: len(set(words)) for kind, words in lists.items()} == dict.fromkeys(lists, 24)
    assert len({word for words in lists.values() for word in words}) == 4 * 24


@pytest.mark.parametrize(("seed", "size"), [(0, 50), (1, 50), (2, 400)])
def test_names_are_unique_capitalised_and_no_words_of_the_questions(seed: int, size: int) -> None:
    import random

    names = entity_names(random.Random(seed), size, 30)
    flat = [name for members in names.values() for name in members]
    assert len(flat) == 3 * size + 30 == len(set(flat))
    assert all(word[0].isupper() and word[1:].islower() for name in flat for word in name.split())
    asked = {
        w.strip("?.").lower() for p in RELATIONS.values() for t in p.wordings for w in t.split()
    }
    assert not {name.split()[-1].lower() for name in names["person"]} & asked


def test_pictures_are_small_rgb_files_of_the_named_views(root: Path) -> None:
    world = World.load(root)
    assert [path.name for path in world.pictured[0].seen] == [f"view_0{i}.png" for i in range(3)]
    assert [path.name for path in world.pictured[0].unseen] == ["view_03.png", "view_04.png"]
    for entity in world.pictured:
        for path in entity.images.values():
            with Image.open(path) as picture:
                assert (picture.size, picture.mode) == ((32, 32), "RGB")


def test_views_of_an_entity_differ_but_less_than_entities_do(root: Path) -> None:
    world = World.load(root)
    stacks = {
        entity.name: np.stack([np.asarray(Image.open(p), float) for p in entity.images.values()])
        for entity in world.pictured
    }
    within = [np.abs(s[0] - s[1]).mean() for s in stacks.values()]
    means = np.stack([s.mean(0) for s in stacks.values()])
    between = [np.abs(a - b).mean() for i, a in enumerate(means) for b in means[:i]]
    assert min(within) > 1.0
    assert np.mean(between) > 0.5 * np.mean(within)


def test_attributes_tell_entities_apart_and_fit_their_slots(full: World) -> None:
    assert full.attribute_sizes == SLOTS
    for type_name, slots in SLOTS.items():
        rows = [tuple(e.attributes[s] for s in slots) for e in full.pictured if e.type == type_name]
        assert all(0 <= v < n for row in rows for v, n in zip(row, slots.values(), strict=True))
        apart = [
            sum(x != y for x, y in zip(a, b, strict=True)) for a in rows for b in rows if a > b
        ]
        assert min(apart) >= 2


def test_emblem_symbols_never_share_the_emblem_colour(full: World) -> None:
    emblems = [entity.attributes for entity in full.pictured if entity.type == "company"]
    assert all(emblem["colour"] != emblem["symbol_colour"] for emblem in emblems)


def test_same_settings_give_the_same_bytes_and_another_seed_other_ones(
    root: Path, tmp_path: Path
) -> None:
    again = generate_world(tmp_path / "again", **SMALL)
    other = generate_world(tmp_path / "other", **{**SMALL, "seed": 4})
    assert files_of(again) == files_of(root)
    assert World.load(again).digest == World.load(root).digest != World.load(other).digest


def test_identical_world_is_reused_untouched(tmp_path: Path) -> None:
    root = generate_world(tmp_path / "world", **SMALL)
    mark = root / "images" / "mark"
    mark.touch()
    assert generate_world(root, **SMALL) == root
    assert mark.exists()


def test_different_world_is_refused_and_kept(tmp_path: Path) -> None:
    root = generate_world(tmp_path / "world", **SMALL)
    before = files_of(root)
    with pytest.raises(DataError, match=r"'size': 6.*'size': 7.*Nothing was written"):
        generate_world(root, **{**SMALL, "size": 7})
    assert files_of(root) == before


def test_folder_with_other_files_is_refused_and_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="no generated world"):
        generate_world(tmp_path, **SMALL)
    assert files_of(tmp_path) == {"notes.txt": b"mine"}


def test_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    assert World.load(generate_world(tmp_path / "world", **SMALL)).pictured


def test_interrupted_run_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Iterator[int] = iter(range(100))

    def interrupted(*_: object) -> np.ndarray:
        if next(calls) == 5:
            raise KeyboardInterrupt
        return np.zeros((32, 32, 3), np.uint8)

    monkeypatch.setattr(generate_module, "render_view", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generate_world(tmp_path / "world", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 3}, r"size=3 .* 4 to 1000"),
        ({"size": 1001}, r"size=1001"),
        ({"cities": 1}, r"cities=1 "),
        ({"unseen_views": 0}, r"unseen_views=0"),
        ({"seed": -1}, r"seed=-1"),
    ],
)
def test_numbers_outside_the_limits_are_refused(
    tmp_path: Path, change: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        generate_world(tmp_path / "world", **{**SMALL, **change})
    assert not (tmp_path / "world").exists()


def test_world_file_tells_how_the_world_was_made(root: Path) -> None:
    described = json.loads((root / "world.json").read_text())
    assert described["generator"] == {"name": "tmke-world", "version": 1, **SMALL}
    assert described["views"]["unseen"] == ["view_03", "view_04"]
