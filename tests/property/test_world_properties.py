"""Properties that hold for every world: random types, gaps in the facts, any order, any seed."""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datamodules.records import Record
from datamodules.source import Split
from datamodules.world import World, world_records
from errors import DataError

SPLITS: tuple[Split, ...] = ("train", "val", "test")
Entities = list[dict[str, Any]]
quick = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def worlds(draw: st.DrawFn) -> Entities:
    """People and firms (or people alone), with gaps in the facts and, at times, in the pictures."""
    n_people, n_firms = draw(st.integers(3, 9)), draw(st.integers(0, 8))
    people = [f"Person {i}" for i in range(n_people)]
    jobs = st.sampled_from(["cook", "pilot", "nurse", "smith"])
    pictured_firms = draw(st.booleans())
    entities: Entities = []
    for name in [*people, *(f"Firm {i}" for i in range(n_firms))]:
        is_firm = name.startswith("Firm")
        someone = st.sampled_from(people)
        possible = {"boss": someone} if is_firm else {"job": jobs, "friend": someone}
        if is_firm:
            possible["trade"] = st.sampled_from(["tin", "wool", "salt"])
        facts = draw(st.fixed_dictionaries({}, optional=possible))
        views = "abcdef"[: draw(st.integers(2, 6))]
        images = {view: f"{name}_{view}.png" for view in views}
        entity = {"id": name, "name": name, "facts": facts, "type": "firm" if is_firm else "person"}
        entities.append(entity | ({} if is_firm and not pictured_firms else {"images": images}))
    if not any(entity["facts"] for entity in entities):
        entities[0]["facts"] = {"job": "cook"}
    return entities


@contextmanager
def loaded(entities: Entities, seed: int = 0) -> Iterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "entities.json").write_text(json.dumps(entities))
        for entity in entities:
            for path in entity.get("images", {}).values():
                (root / path).touch()
        yield World.load(root, seed=seed)


def records_of(world: World, split: Split, seed: int) -> list[Record]:
    """Records of a split, none where the world is too poor for any."""
    try:
        return world_records(world, split, seed=seed, targets_per_fact=2)
    except DataError:
        return []


@quick
@given(worlds(), st.integers(0, 10_000))
def test_splits_cover_the_world_and_halve_every_type(entities: Entities, seed: int) -> None:
    with loaded(entities, seed) as world:
        members = {split: {e.name for e in world.members(split)} for split in SPLITS}
        assert sum(map(len, members.values())) == len(entities)
        assert set().union(*members.values()) == set(world.entities)
        for type_name in world.types:
            n = sum(entity.type == type_name for entity in world.entities.values())
            assert len(world.members("test", type_name)) == n // 2
            assert len(world.members("train", type_name)) >= 1


@quick
@given(worlds(), st.integers(0, 10_000))
def test_targets_are_in_use_and_never_true(entities: Entities, seed: int) -> None:
    with loaded(entities, seed) as world:
        for split in SPLITS:
            for r in records_of(world, split, seed):
                assert r.relation is not None
                assert world.split(r.subject) == split
                used = {v for (_, relation), v in world.facts.items() if relation == r.relation}
                assert r.knowledge_edit.answer_new in used - {r.knowledge_edit.answer_true}
                assert r.knowledge_edit.answer_true == world.facts[r.subject, r.relation]


@quick
@given(worlds(), st.integers(0, 10_000))
def test_one_hop_answers_are_facts_of_the_two_objects(entities: Entities, seed: int) -> None:
    with loaded(entities, seed) as world:
        for r in records_of(world, "test", seed):
            edit, asked = r.knowledge_edit, r.one_hop_question
            able = {
                b
                for a, b in world.hops
                if a == r.relation
                and {(edit.answer_new, b), (edit.answer_true, b)} <= set(world.facts)
            }
            assert (asked is None) == (not able)
            if asked is None:
                continue
            pairs = {
                b: (world.facts[edit.answer_new, b], world.facts[edit.answer_true, b]) for b in able
            }
            assert (asked.answer_new, asked.answer_true) in pairs.values()
            if any(new != true for new, true in pairs.values()):
                assert asked.answer_new != asked.answer_true


@quick
@given(worlds(), st.integers(0, 10_000))
def test_pictures_are_of_the_probes_entities(entities: Entities, seed: int) -> None:
    with loaded(entities, seed) as world:
        for r in records_of(world, "test", seed):
            subject = world.entities[r.subject]
            assert world.root / r.image in subject.seen
            assert world.root / r.image_rephrase in subject.unseen
            assert not set(subject.seen) & set(subject.unseen)
            same = world.entities[r.same_type_entity_question.same_type_entity]
            assert same.name != subject.name
            assert same.type == subject.type
            assert world.root / r.same_entity_image in same.seen
            probe = r.diff_type_entity_question
            assert (probe is None) == ({e.type for e in world.pictured} == {subject.type})
            if probe is not None and r.diff_entity_image is not None:
                other = world.entities[probe.diff_type_entity]
                assert other.type != subject.type
                assert world.root / r.diff_entity_image in other.seen
            for question in (
                r.knowledge_edit.image_question,
                r.same_type_entity_question.image_question,
            ):
                assert f"the {subject.type} in the image" in question
                assert subject.name not in question


@quick
@given(worlds(), st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_of_the_file_changes_nothing(
    entities: Entities, seed: int, shuffler: random.Random
) -> None:
    with loaded(entities, seed) as world:
        before = {split: records_of(world, split, seed) for split in SPLITS}
    shuffled = [
        entity
        | {
            key: dict(sorted(entity.get(key, {}).items(), reverse=True))
            for key in ("facts", "images")
        }
        for entity in entities
    ]
    shuffler.shuffle(shuffled)
    with loaded(shuffled, seed) as world:
        assert {split: records_of(world, split, seed) for split in SPLITS} == before
