"""What is read from pictures, held to a slow reference."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.pictures import PictureBank, normalise
from pretraining.vision import measure_reading, reading_table
from pretraining.vision.asking import (
    Questioner,
    answer_ids,
    answer_scores,
    answered_right,
)
from pretraining.vision.projector import new_projector, open_projector
from pretraining.vision.reading import SEEN, UNSEEN, WRONG, fact_pictures
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank, tower_features
from tests.vision_cases import CPU, SLOTS, batches, every_fact, random_language


@pytest.fixture(scope="module")
def reader(world: World, tower: TowerResult) -> Reader:
    """A language model and a projector that learned together, so that some answers are right."""
    language = random_language(world)
    language.model.requires_grad_(True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        projector = new_projector(CLIPVisionConfig(**tower.config), language.model.config)
    both = [*language.model.parameters(), *projector.parameters()]
    optimizer = torch.optim.Adam(both, lr=5e-3)
    for step in batches(world, language, tower, facts=True, steps=80):
        for asked in step:
            scores = answer_scores(language.model, projector, asked)
            torch.nn.functional.cross_entropy(scores, answer_ids(asked)).backward()
        optimizer.step()
        optimizer.zero_grad()
    language.model.requires_grad_(False)
    return language, projector.state_dict()


Reader = tuple[LanguageModel, dict[str, Tensor]]


def whole_llava(
    language: LanguageModel, tower: TowerResult, projector: dict[str, Tensor]
) -> LlavaForConditionalGeneration:
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**tower.config),
        text_config=copy.deepcopy(language.model.config),
        image_token_index=language.tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=SLOTS, vision_feature_layer=-1, tie_word_embeddings=True,
    )  # fmt: skip
    model = LlavaForConditionalGeneration(config).eval()
    model.model.vision_tower.load_state_dict(tower.state)
    model.model.multi_modal_projector.load_state_dict(projector)
    model.model.language_model.load_state_dict(language.model.model.state_dict())
    model.tie_weights()
    return model


@torch.no_grad()
def test_reading_is_that_of_the_whole_model(
    world: World,
    reader: Reader,
    tower: TowerResult,
    pictures: PictureBank,
    bank: ViewBank,
) -> None:
    """One row at a time, through transformers' own LLaVA, from pixels."""
    language, projector = reader
    model, image = whole_llava(language, tower, projector), 3
    known, limit = every_fact(world), 20
    asked = fact_pictures(world, bank, known, limit, seed=5)

    def right(question: str, answer: str, view: int) -> bool:
        prompt = language.tokenizer(f"Question: {question} Short answer:")["input_ids"]
        whole = language.tokenizer(f"Question: {question} Short answer: {answer}")["input_ids"]
        ids = torch.tensor([[whole[0], *[image] * SLOTS, *whole[1:]]])
        logits = model(
            input_ids=ids, attention_mask=torch.ones_like(ids),
            pixel_values=normalise(bank.pixels[view : view + 1]),
        ).logits[0]  # fmt: skip
        at = len(prompt) + SLOTS
        return logits[at - 1 : -1].argmax(-1).tolist() == ids[0, at:].tolist()

    names = [
        right(world.identity_question(world.entities[v.entity].type), v.entity, i)
        for i, v in enumerate(bank.views)
    ]
    facts = {
        sort: [
            right(world.question(r, 0, world.in_image(e)), world.facts[e, r], view)
            for e, r, pictures, view in asked
            if pictures == sort
        ]
        for sort in (SEEN, UNSEEN, WRONG)
    }
    assert 0 < sum(names) < len(names)
    assert 0 < sum(facts[SEEN]) < limit
    measured = measure_reading(
        language, tower, projector, world, pictures, known, seed=5, device=CPU, limit=limit
    )
    for sort, unseen in ((SEEN, False), (UNSEEN, True)):
        hits = [hit for hit, view in zip(names, bank.views, strict=True) if view.unseen == unseen]
        cell = measured["names"][sort]
        assert cell == {"right": round(100 * sum(hits) / len(hits), 2), "asked": len(hits)}
    for sort, hits in facts.items():
        assert measured["facts"][sort]["right"] == round(100 * sum(hits) / len(hits), 2)
        assert measured["facts"][sort]["asked"] == len(hits) == 20
    by_name = measured["facts"]["by_name"]
    named = sum(names[view] for *_, pictures, view in asked if pictures == SEEN)
    assert by_name.get("right", {}).get(SEEN, {"asked": 0})["asked"] == named
    halves = measured["facts"]["by_half"]
    assert sum(half[SEEN]["asked"] for half in halves.values()) == 20
    views = measured["names"]["by_view"].values()
    assert sum(cell["asked"] for cell in views) == len(bank.views)
    assert reading_table({"naming": measured}).row_count == 5


def test_a_wrong_picture_is_of_another_entity_with_another_answer(
    world: World, bank: ViewBank
) -> None:
    known = every_fact(world)
    for seed in range(20):
        asked = fact_pictures(world, bank, known, None, seed)
        wrong = [row for row in asked if row[2] == WRONG]
        assert len(wrong) == len(known)
        for entity, relation, _, view in wrong:
            shown = bank.views[view].entity
            assert shown != entity
            assert world.entities[shown].type == world.entities[entity].type
            answers = {
                world.facts.get((e.name, relation))
                for e in world.pictured
                if e.type == world.entities[entity].type
            }
            if len(answers) > 1:
                assert world.facts.get((shown, relation)) != world.facts[entity, relation]
        for entity, _, pictures, view in asked:
            if pictures != WRONG:
                assert bank.views[view].entity == entity
            assert bank.views[view].unseen == (pictures == UNSEEN)
    few = fact_pictures(world, bank, known, 7, 0)
    assert len({row[:2] for row in few}) == 7


def test_a_wrong_picture_is_of_another_entity_where_all_have_one_answer(
    world: World, bank: ViewBank
) -> None:
    alike = copy.copy(world)
    alike.facts = dict.fromkeys(world.facts, "the same")
    wrong = [
        row for row in fact_pictures(alike, bank, every_fact(world), None, 0) if row[2] == WRONG
    ]
    assert len(wrong) == len(every_fact(world))
    assert all(bank.views[view].entity != entity for entity, _, _, view in wrong)


def test_padding_changes_no_answer(
    world: World,
    reader: Reader,
    tower: TowerResult,
    bank: ViewBank,
) -> None:
    language, projector = reader
    questioner = Questioner(world, language.tokenizer, SLOTS)
    mapped = open_projector(projector, CLIPVisionConfig(**tower.config), language.model.config)
    features = tower_features(tower.open(CPU), bank.pixels, CPU)
    rows = [questioner.name(view.entity) for view in bank.views]
    order = list(range(len(rows)))
    random.Random(1).shuffle(order)

    def asked(some: list[int]) -> list[bool]:
        return answered_right(
            language.model, mapped, questioner.encoder, [rows[i] for i in some], features[some], CPU
        )

    together = asked(order)
    assert 0 < sum(together) < len(together)
    assert together == [asked([index])[0] for index in order]
