"""Rows and pictures that a projector is taught with."""

from __future__ import annotations

import pytest
import torch

from datamodules.world import World
from errors import DataError
from models.language_model import LanguageModel
from pretraining.vision.asking import (
    NAMING_WORDINGS,
)
from pretraining.vision.tower import TowerResult
from tests.vision_cases import SLOTS, TOWER, aligned, alignment, batches, every_fact, texts


def test_the_first_wording_is_the_world_s_and_all_differ(world: World) -> None:
    noun = world.noun(world.types[0])
    asked = [wording.format(noun=noun) for wording in NAMING_WORDINGS]
    assert asked[0] == world.identity_question(world.types[0])
    assert len(set(asked)) == len(asked) >= 4
    assert all(f"the {noun}" in text or f" {noun} " in text for text in asked)


def test_naming_rows_learn_the_name_and_the_end(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    some = batches(world, language, tower, facts=False, steps=8)
    asked, names = list(texts(language, some)), set()
    for row, learned in asked:
        question, answer = row.split(" Short answer:")
        assert row.startswith("<s>Question: ")
        assert answer == learned
        assert learned.endswith("</s>")
        names.add(learned.removesuffix("</s>").strip())
        types = {world.entities[learned.removesuffix("</s>").strip()].type}
        written = {w.format(noun=world.noun(t)) for w in NAMING_WORDINGS for t in types}
        assert question.removeprefix("<s>Question: ") in written
    assert names == {entity.name for entity in world.pictured}  # 48 rows, 12 entities
    assert len({row.split(" Short answer:")[0] for row, _ in asked}) > 8


def test_every_row_has_one_picture_right_after_the_begin_token(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    for step in batches(world, language, tower, facts=True, steps=4):
        for asked in step:
            slots = asked.rows.image_slots
            assert slots[:, 1 : 1 + SLOTS].all()
            assert bool((slots.sum(1) == SLOTS).all())
            assert bool((asked.rows.input_ids[:, 0] == language.tokenizer.bos_token_id).all())
            assert asked.features.shape == (len(slots), SLOTS, TOWER.width)


def test_pictures_stand_beside_their_own_rows(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    some = batches(world, language, tower, facts=True, steps=6)
    views = some.pool.features
    for step in some:
        for asked in step:
            for ids, learned, features in zip(
                asked.rows.input_ids, asked.rows.answer_mask, asked.features, strict=True
            ):
                answer = language.tokenizer.decode(ids[learned]).removesuffix("</s>").strip()
                (row,) = (views == features).flatten(1).all(1).nonzero()[:1, 0].tolist()
                entity = next(e for e, rows in some.pool._rows.items() if row in rows)
                assert answer in {entity, *world.entities[entity].facts.values()}


def test_facts_of_the_test_half_are_never_asked(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    some = batches(world, language, tower, facts=True, steps=60)
    tested = {entity.name for entity in world.members("test")}
    assert some.facts.keys() == {e.name for e in world.pictured} - tested
    rows = list(texts(language, some))
    of_facts = {(q.split(" Short")[0], a.removesuffix("</s>").strip()) for q, a in rows}
    of_facts = {(q, a) for q, a in of_facts if a not in world.entities or "name" not in q}
    taught = {
        world.facts[fact] for fact in every_fact(world) if world.split(fact[0]) != "test"
    } | set(world.entities)
    assert {answer for _, answer in of_facts} <= taught
    asked = {
        (entity, relation) for entity, relations in some.facts.items() for relation in relations
    }
    assert asked == {f for f in every_fact(world) if world.split(f[0]) != "test"}
    named = [learned for _, learned in rows if learned.removesuffix("</s>").strip() in tested]
    assert named  # the test half gets naming


def test_naming_rows_are_the_same_with_and_without_facts(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    alone = batches(world, language, tower, facts=False, steps=5)
    beside = batches(world, language, tower, facts=True, steps=5)
    for few, many in zip(alone, beside, strict=True):
        wanted = [tuple(row) for row in texts(language, [few])]  # type: ignore[arg-type]
        given = [tuple(row) for row in texts(language, [many])]  # type: ignore[arg-type]
        assert len(given) == 2 * len(wanted)  # facts_share=0.5
        for row in wanted:
            given.remove(row)
        pictures = torch.cat([asked.features for asked in few])
        shown = torch.cat([asked.features for asked in many])
        for picture in pictures:
            assert bool((shown == picture).flatten(1).all(1).any())


def test_a_language_model_that_knows_no_fact_is_told_of(
    world: World, language: LanguageModel, tower: TowerResult, caplog: pytest.LogCaptureFixture
) -> None:
    naming = aligned("naming", language, tower, world, alignment(2))
    asked = aligned(
        "naming_and_facts", language, tower, world, alignment(2), facts=every_fact(world)
    )
    assert "fact_rows" not in naming.measured
    assert asked.measured["fact_rows"] > 0
    assert "knows no fact" not in caplog.text
    bare = aligned("naming_and_facts", language, tower, world, alignment(2))
    assert bare.measured["fact_rows"] == 0
    assert "knows no fact of this world" in caplog.text
    assert all(torch.equal(value, naming.state[name]) for name, value in bare.state.items())


def test_no_fact_to_ask_is_refused(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    tested = [fact for fact in every_fact(world) if world.split(fact[0]) == "test"]
    with pytest.raises(DataError, match="none is about such an entity"):
        aligned("naming_and_facts", language, tower, world, alignment(), facts=tested)
