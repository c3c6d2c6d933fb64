"""Samples of the pretraining: what is learned, what is graded, where the subject stands."""

from __future__ import annotations

import random

import pytest
import torch

from datamodules.world import World, generate_world
from pretraining.pictures import PictureBank
from pretraining.sampler import (
    Deck,
    SampleBuilder,
    StepSampler,
    chain_questions,
    one_hop_questions,
)
from pretraining.samples import IGNORE, Sample, SampleEncoder, collate, group_by_length
from pretraining.tokenizer import build_tokenizer, world_texts
from tests.recipes import recipe


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("rows") / "world"
    return World.load(generate_world(root, size=6, cities=4, seen_views=2, unseen_views=1))


@pytest.fixture(scope="module")
def encoder(world: World) -> SampleEncoder:
    return SampleEncoder(build_tokenizer(world_texts(world)), image_tokens=4)


@pytest.fixture
def builder(world: World, encoder: SampleEncoder) -> SampleBuilder:
    return SampleBuilder(world, encoder, random.Random(0))


def text_of(encoder: SampleEncoder, ids: tuple[int, ...] | list[int]) -> str:
    return encoder.tokenizer.decode(list(ids))


def test_no_word_of_the_world_is_spelled_in_bytes(builder: SampleBuilder, world: World) -> None:
    pieces = 0
    for question in one_hop_questions(world):
        for by_picture in (False, bool(world.entities[question[0]].images)):
            sample = builder.one_hop(question, by_picture=by_picture)
            tokens = builder.encoder.tokenizer.convert_ids_to_tokens(list(sample.ids))
            pieces += sum(len(t) == 1 and t.isalpha() and t != "s" for t in tokens)
    assert pieces == 0


def test_a_text_row_is_the_plain_string_with_its_answer_marked(
    builder: SampleBuilder, world: World
) -> None:
    entity, relation = next(iter(world.facts))
    sample = builder.one_hop((entity, relation, 0), by_picture=False)
    answer = world.facts[entity, relation]
    asked = world.question(relation, 0, entity)
    expected = f"<s>Question: {asked} Short answer: {answer}</s>"
    assert text_of(builder.encoder, sample.ids) == expected
    assert text_of(builder.encoder, sample.answer_ids) == f" {answer}"
    assert text_of(builder.encoder, sample.ids[sample.span[0] : sample.span[1] + 1]) == f" {entity}"
    learned = [i for i, s in zip(sample.ids, sample.scored, strict=True) if s]
    assert learned == [*sample.answer_ids, builder.encoder.eos_id]
    assert sample.prompt_length == len(sample.ids) - len(learned)


def test_an_image_row_has_its_slots_after_bos_and_the_same_text(
    builder: SampleBuilder, world: World
) -> None:
    entity, relation = next((e, r) for e, r in world.facts if world.entities[e].images)
    sample = builder.one_hop((entity, relation, 1), by_picture=True)
    assert sample.ids[:5] == (builder.encoder.bos_id, *[builder.encoder.image_id] * 4)
    asked = world.question(relation, 1, world.in_image(entity))
    answer = world.facts[entity, relation]
    text = text_of(builder.encoder, sample.ids[5:])
    assert text == f"Question: {asked} Short answer: {answer}</s>"
    assert entity not in text.removesuffix(f" {answer}</s>")
    assert sample.picture == entity
    assert not sample.subject


def test_refusals_ask_what_the_subject_does_not_have(builder: SampleBuilder, world: World) -> None:
    for entity in world.entities.values():
        sample = builder.refusal(entity.name, by_picture=False)
        assert sample is not None
        text = text_of(builder.encoder, sample.ids)
        assert " Sorry, there is no " in text
        own = world.noun(entity.type)
        assert f"there is no {own} in the image" not in text
        assert entity.name in text


def test_chains_work_out_both_steps_and_leave_the_test_half_out(
    builder: SampleBuilder, world: World
) -> None:
    learned = chain_questions(world, tested=False)
    tested = chain_questions(world, tested=True)
    assert learned
    assert tested
    assert all(world.split(chain[0]) != "test" for chain in learned)
    assert all(world.split(chain[0]) == "test" for chain in tested)
    entity, first, second, wording = learned[0]
    bridge = world.facts[entity, first]
    sample = builder.chain(learned[0])
    steps = (
        f" {world.question(first, 0, entity)} {bridge}; "
        f"{world.question(second, 0, bridge)} {world.facts[bridge, second]}"
    )
    assert text_of(builder.encoder, sample.answer_ids) == steps
    asked = world.two_hop_question(first, second, wording, entity)
    assert text_of(builder.encoder, sample.ids) == f"<s>Question: {asked} Steps:{steps}</s>"


def test_contexts_state_facts_of_every_entity_but_none_of_a_test_record(
    builder: SampleBuilder, world: World
) -> None:
    held_out = {
        f"New Fact: {world.question(relation, wording, entity)} {new}"
        for (entity, relation), new in builder.held_out.items()
        for wording in range(len(world.relations[relation].wordings))
    }
    assert held_out
    objects = set(world.facts.values())
    facts = []
    for _ in range(200):
        sample = builder.context(3)
        text = text_of(builder.encoder, sample.ids).removeprefix("<s>").removesuffix("</s>")
        for block in text.split("\n\n"):
            fact, prompt = block.split("\n")
            facts.append(fact)
            assert fact.startswith("New Fact: ")
            assert prompt.startswith("Prompt: ")
            assert any(prompt.endswith(f" {value}") for value in objects)
    assert not held_out & set(facts)
    for split in ("train", "test"):
        names = [name for name in world.entities if world.split(name) == split]
        assert any(name in fact for name in names for fact in facts), split


def test_every_retained_answer_is_the_learned_or_the_stated_one(
    builder: SampleBuilder, world: World
) -> None:
    by_question = {
        world.question(r, wording, e): (e, r)
        for e, r in world.facts
        for wording in range(len(world.relations[r].wordings))
    }
    followed = 0
    for _ in range(80):
        stated: dict[tuple[str, str], str] = {}
        pieces = builder.demonstrations(3)
        for head, answer in zip(pieces[0::3], pieces[1::3], strict=True):
            fact_line, prompt = head[0].split("\n")
            question = next(q for q in by_question if fact_line.startswith(f"New Fact: {q} "))
            stated[by_question[question]] = fact_line.removeprefix(f"New Fact: {question} ")
            asked = by_question[prompt.removeprefix("Prompt: ")]
            assert answer[0] == " " + stated.get(asked, world.facts[asked])
            followed += asked in stated
    assert 130 < followed < 220  # 70 % of 240 follow, and some that retain hit a stated fact


def test_collate_pads_on_the_right_and_learns_only_answers(
    builder: SampleBuilder, world: World
) -> None:
    entity, relation = next((e, r) for e, r in world.facts if world.entities[e].images)
    samples = [
        builder.one_hop((entity, relation, 0), by_picture=False),
        builder.one_hop((entity, relation, 0), by_picture=True),
        builder.identity(entity),
    ]
    batch = collate(samples, builder.encoder.pad_id, first_picture=5)
    assert batch.attention_mask.sum(1).tolist() == [len(s.ids) for s in samples]
    for row, sample in enumerate(samples):
        n = len(sample.ids)
        assert batch.input_ids[row, :n].tolist() == list(sample.ids)
        assert bool((batch.input_ids[row, n:] == builder.encoder.pad_id).all())
        learned = batch.labels[row][batch.labels[row] != IGNORE].tolist()
        assert learned == [*sample.answer_ids, builder.encoder.eos_id]
        assert batch.input_ids[row][batch.graded[row]].tolist() == list(sample.answer_ids)
    assert batch.image_rows.tolist() == [1, 2]
    assert batch.picture_rows.tolist() == [5, 6]
    assert batch.subjects == (entity, "", "")


def test_grouping_keeps_every_row_and_the_order_of_pictures(
    builder: SampleBuilder, world: World
) -> None:
    sampler = StepSampler(builder, PictureBank({}, {}), recipe(text_rows=6, image_rows=7))
    samples = sampler.short()
    groups = group_by_length(samples, builder.encoder.pad_id)
    assert sum(len(group.input_ids) for group in groups) == len(samples)
    shown = [name for group in groups for name in group.pictures]
    assert sorted(shown) == sorted(s.picture for s in samples if s.picture)
    assert torch.cat([group.picture_rows for group in groups]).tolist() == list(range(len(shown)))
    assert groups[0].input_ids.shape[1] < groups[1].input_ids.shape[1]


def test_a_deck_deals_every_item_before_any_comes_again() -> None:
    deck = Deck(list(range(10)), random.Random(0))
    assert sorted(deck.draw(4) + deck.draw(6)) == list(range(10))
    assert sorted(deck.draw(10)) == list(range(10))
    assert Deck([], random.Random(0)).draw(3) == []


def test_the_span_is_the_question_s_subject_not_an_answer_of_the_same_name(
    encoder: SampleEncoder, world: World
) -> None:
    name = world.pictured[0].name
    sample: Sample = encoder.question(f"Who leads {name}?", name, subject=name)
    assert text_of(encoder, sample.ids[sample.span[0] : sample.span[1] + 1]) == f" {name}"
    assert sample.span[1] < sample.prompt_length


def test_the_span_is_a_whole_word_and_literal_specials_are_text(encoder: SampleEncoder) -> None:
    question = "Is Annabel </s> of Ann?"
    sample = encoder.question(question, "Ann", subject="Ann")
    first, last = sample.span
    assert text_of(encoder, sample.ids[first : last + 1]).strip() == "Ann"
    assert text_of(encoder, sample.ids[:first]).rstrip().endswith("</s> of")
    assert question in text_of(encoder, sample.ids)
    assert sample.ids.count(encoder.eos_id) == 1
