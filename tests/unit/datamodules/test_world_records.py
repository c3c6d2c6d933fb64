"""Records made from a world: what every field asks, and what it never may."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from datamodules.records import Record
from datamodules.source import Split
from datamodules.world import World, generate_world, world_records
from errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]
COUNTRIES = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared")) / "data/world_countries"
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("worlds") / "world"
    return World.load(generate_world(folder, size=20, cities=12, seen_views=4, unseen_views=2))


@pytest.fixture(scope="module")
def records_test(world: World) -> list[Record]:
    return world_records(world, "test", seed=0)


def stem(path: str) -> str:
    return Path(path).parent.name


def entity_of(world: World, path: str) -> str:
    return next(entity.name for entity in world.pictured if entity.id == stem(path))


def test_every_pictured_fact_of_the_split_is_edited_once(
    world: World, records_test: list[Record]
) -> None:
    facts = [(r.subject, r.relation) for r in records_test]
    assert facts == [
        (subject, relation)
        for subject, relation in world.facts
        if world.split(subject) == "test" and world.entities[subject].images
    ]
    assert len(facts) == 10 * 3 + 10 * 3 + 10 * 2


def test_edit_asks_the_first_wording_and_the_rephrase_another(
    world: World, records_test: list[Record]
) -> None:
    rephrasings = set()
    for r in records_test:
        assert r.relation is not None
        wordings = world.relations[r.relation].wordings
        asked = [wording.replace("{s}", r.subject) for wording in wordings]
        assert r.knowledge_edit.question == asked[0]
        assert r.rephrase_question.rephrase_question in asked[1:]
        rephrasings.add(asked.index(r.rephrase_question.rephrase_question))
        mention = f"the {r.entity_type} in the image"
        assert r.knowledge_edit.image_question == wordings[0].replace("{s}", mention)
    assert rephrasings == {1, 2, 3, 4, 5}


def test_training_records_vary_the_wording_of_the_edit(world: World) -> None:
    records = world_records(world, "train", targets_per_fact=3)
    asked = set()
    for r in records:
        assert r.relation is not None
        wordings = [w.replace("{s}", r.subject) for w in world.relations[r.relation].wordings]
        asked.add(wordings.index(r.knowledge_edit.question))
        assert r.knowledge_edit.question != r.rephrase_question.rephrase_question
    assert asked == set(range(6))


def test_targets_are_other_objects_in_use(world: World) -> None:
    records = world_records(world, "train", targets_per_fact=4)
    by_fact: dict[tuple[str, str | None], set[str]] = {}
    for r in records:
        assert r.relation is not None
        new, true = r.knowledge_edit.answer_new, r.knowledge_edit.answer_true
        assert true == world.facts[r.subject, r.relation] != new
        assert new in world.relations[r.relation].objects
        by_fact.setdefault((r.subject, r.relation), set()).add(new)
    assert {len(targets) for targets in by_fact.values()} == {4}


def test_more_targets_keep_the_first_records(world: World) -> None:
    one = world_records(world, "val", targets_per_fact=1)
    three = world_records(world, "val", targets_per_fact=3)
    assert [r for r in three if r in one] == one


def test_one_hop_follows_the_facts_of_both_objects(
    world: World, records_test: list[Record]
) -> None:
    for r in records_test:
        first = {a for a, _ in world.hops}
        assert (r.one_hop_question is not None) == (r.relation in first)
        if r.one_hop_question is None:
            assert len(r.single_hops) == len(r.new_single_hops) == 1
            continue
        assert r.relation is not None
        asked = r.one_hop_question
        matching = [
            b
            for a, b in world.hops
            if a == r.relation
            and world.two_hop_question(a, b, 0, r.subject) == asked.one_hop_question
        ]
        assert len(matching) == 1
        edit = r.knowledge_edit
        assert asked.answer_new == world.facts[edit.answer_new, matching[0]]
        assert asked.answer_true == world.facts[edit.answer_true, matching[0]]
        assert f"the {r.entity_type} in the image" in asked.one_hop_image_question
        assert [hop.answer for hop in r.single_hops] == [edit.answer_true, asked.answer_true]
        assert [hop.answer for hop in r.new_single_hops] == [edit.answer_new, asked.answer_new]


def test_one_hop_answers_differ_wherever_some_relation_tells_the_objects_apart(
    world: World, records_test: list[Record]
) -> None:
    equal = 0
    for r in records_test:
        if r.one_hop_question is None:
            continue
        if r.one_hop_question.answer_new == r.one_hop_question.answer_true:
            equal += 1
            objects = (r.knowledge_edit.answer_new, r.knowledge_edit.answer_true)
            seconds = [b for a, b in world.hops if a == r.relation]
            assert all(len({world.facts[o, b] for o in objects}) == 1 for b in seconds)
    assert equal < 3


def test_probe_entities_have_the_right_type_and_split(
    world: World, records_test: list[Record]
) -> None:
    for r in records_test:
        own = world.entities[r.subject].type
        same = r.same_type_entity_question
        other = r.diff_type_entity_question
        assert r.relation is not None
        assert world.entities[same.same_type_entity].type == own
        assert same.same_type_entity != r.subject
        assert same.answer == world.facts[same.same_type_entity, r.relation]
        assert same.answer != r.knowledge_edit.answer_new
        assert same.question == world.question(r.relation, 0, same.same_type_entity)
        assert world.entities[other.diff_type_entity].type != own
        assert other.answer == f"Sorry, there is no {r.entity_type} in the image"
        assert other.image_question == r.knowledge_edit.image_question
        shown = {entity_of(world, r.same_entity_image), entity_of(world, r.diff_entity_image)}
        assert shown == {same.same_type_entity, other.diff_type_entity}
        assert {world.split(name) for name in shown} == {"test"}


def test_pictures_show_their_entities_in_the_right_views(
    world: World, records_test: list[Record]
) -> None:
    for r in records_test:
        entity = world.entities[r.subject]
        assert world.root / r.image in entity.seen
        assert world.root / r.image_rephrase in entity.unseen
        for image in (r.same_entity_image, r.diff_entity_image, r.locality_image):
            assert world.root / image in world.entities[entity_of(world, image)].seen
    assert len({Path(r.image).name for r in records_test}) == 4
    assert len({Path(r.image_rephrase).name for r in records_test}) == 2


def test_far_locality_asks_another_relation_of_another_type(
    world: World, records_test: list[Record]
) -> None:
    asked = {
        world.question(relation, wording, name): (name, relation)
        for name, relation in world.facts
        for wording in range(6)
    }
    for r in records_test:
        name, relation = asked[r.locality_question.question]
        own = world.entities[r.subject].type
        assert relation != r.relation
        assert world.entities[name].type != own
        assert world.split(name) == "test"
        assert r.locality_question.answer == world.facts[name, relation]
        pictured = entity_of(world, r.locality_image)
        assert world.entities[pictured].type != own
        assert r.image_locality_question.answer in world.entities[pictured].facts.values()
    assert len({r.locality_question.question for r in records_test}) > len(records_test) // 2


def test_near_locality_is_of_a_third_subject_and_of_the_subject_itself(
    world: World, records_test: list[Record]
) -> None:
    for r in records_test:
        near, subject = r.extra_locality
        assert (near.kind, subject.kind) == ("near", "subject")
        assert r.relation is not None
        name = entity_of(world, near.image)
        assert name not in (r.subject, r.same_type_entity_question.same_type_entity)
        assert near.question == world.question(r.relation, 0, name)
        assert near.answer == world.facts[name, r.relation]
        assert entity_of(world, subject.image) == r.subject
        assert r.subject in subject.question
        others = {v for k, v in world.entities[r.subject].facts.items() if k != r.relation}
        assert subject.answer in others


def test_splits_share_no_subject(world: World) -> None:
    subjects = [{r.subject for r in world_records(world, split)} for split in SPLITS]
    assert not subjects[0] & subjects[1] | subjects[0] & subjects[2] | subjects[1] & subjects[2]


def test_seed_decides(world: World, records_test: list[Record]) -> None:
    assert world_records(world, "test", seed=0) == records_test
    assert world_records(world, "test", seed=1) != records_test


def test_records_survive_json(records_test: list[Record]) -> None:
    again = [Record.model_validate_json(record.model_dump_json()) for record in records_test]
    assert again == records_test


def test_only_allowed_facts_are_edited_and_probed(world: World) -> None:
    allowed = {fact for fact in world.facts if fact[1] in ("founder", "style", "occupation")}
    records = world_records(world, "test", facts=allowed)
    assert {r.relation for r in records} == {"founder", "style", "occupation"}
    texts = {world.question(f[1], w, f[0]) for f in allowed for w in range(6)}
    for r in records:
        assert r.locality_question.question in texts
        assert [probe.kind for probe in r.extra_locality] == ["near"]


def test_world_of_one_type_has_no_different_type_probe(tmp_path: Path) -> None:
    world = World.load(ring(tmp_path, 12), noun="town")
    records = world_records(world, "test")
    for r in records:
        assert r.diff_type_entity_question is None
        assert r.diff_entity_image is None
        assert r.locality_question.question.count("river") == (r.relation != "river")


def test_lonely_entity_of_a_split_borrows_its_probes(tmp_path: Path) -> None:
    world = World.load(ring(tmp_path, 4))
    records = world_records(world, "val")
    (alone,) = world.members("val")
    assert {r.subject for r in records} == {alone.name}
    assert all(r.same_type_entity_question.same_type_entity != alone.name for r in records)


def test_target_is_never_the_subject_itself(tmp_path: Path) -> None:
    world = World.load(ring(tmp_path, 5))
    for split in SPLITS:
        for r in world_records(world, split, targets_per_fact=10):
            assert r.knowledge_edit.answer_new not in (r.subject, r.knowledge_edit.answer_true)


def test_world_without_alternatives_gives_a_clear_error(tmp_path: Path) -> None:
    entities = json.loads((ring(tmp_path, 4) / "entities.json").read_text())
    for entity in entities:
        entity["facts"] = {"planet": "Earth"}
    (tmp_path / "entities.json").write_text(json.dumps(entities))
    message = r"split 'test' gives no record: 2 facts of 2 entities .* 2 of them have no other"
    with pytest.raises(DataError, match=message):
        world_records(World.load(tmp_path), "test")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, r"split='dev' is unknown\. Choose one of: train, val, test"),
        ({"split": "test", "targets_per_fact": 0}, r"targets_per_fact=0"),
    ],
)
def test_wrong_arguments_are_named(world: World, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        world_records(world, **arguments)


@pytest.mark.skipif(not COUNTRIES.is_dir(), reason=f"no countries world at {COUNTRIES}")
def test_countries_give_records_with_existing_pictures() -> None:
    world = World.load(COUNTRIES, noun="country")
    records = world_records(world, "test")
    assert len({r.subject for r in records}) == 83
    hop = [r for r in records if r.one_hop_question is not None]
    assert {r.relation for r in hop} == {"largest_neighbour"}
    assert len(hop) > 50
    for r in records:
        assert r.image_rephrase.endswith("_waved.png")
        assert r.entity_type == "country"
        assert r.diff_type_entity_question is None
        pictures = (r.image, r.same_entity_image, r.locality_image)
        assert all((world.root / picture).is_file() for picture in pictures)


def ring(folder: Path, n: int) -> Path:
    """Towns with a river and a twin each, and two pictures."""
    entities = [
        {
            "id": f"t{i}",
            "name": f"Town {i}",
            "facts": {"river": f"Water {i % 3}", "twin": f"Town {(i + 1) % n}"},
            "images": {view: f"t{i}_{view}.png" for view in "ab"},
        }
        for i in range(n)
    ]
    for entity in entities:
        for path in entity["images"].values():  # type: ignore[attr-defined]
            (folder / path).touch()
    (folder / "entities.json").write_text(json.dumps(entities))
    return folder
