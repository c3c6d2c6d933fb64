"""The three alignments: what the default one always did, and what naming keeps from whom."""

from __future__ import annotations

import hashlib
import json
import random
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from torch import Tensor
from transformers import PreTrainedModel

from configs.check import load_config
from datamodules.world import World, generate_world
from errors import ConfigError
from pretraining import reading
from pretraining.accuracy import sample_encoder
from pretraining.build import build_tiny
from pretraining.module import PretrainingModule
from pretraining.naming import NamingModule, NamingSampler, frozen
from pretraining.pictures import PictureBank, image_processor
from pretraining.reading import picture_reading
from pretraining.run import make_module, train
from pretraining.sampler import SampleBuilder, StepSampler, one_hop_questions
from pretraining.samples import SampleEncoder, TextBatch
from pretraining.saving import missed_targets
from pretraining.tokenizer import build_tokenizer, name_questions, world_texts
from tests.recipes import SMALL, recipe

STAGES = {**SMALL, "naming_steps": 3, "naming_rows": 5, "picture_fact_rows": 4}
BY_NAMING = ("naming", "naming_and_facts")

# Of the recipe before there was another alignment: every row of SMALL's run, and the losses of its
# third step of the mixture (torch 2.13 on a CPU, one thread), where the run's loss is their sum.
ROWS = "561c9497b68bbbaef43b15fc8114097f2eaec3836ffc72d9868c0ad91838df31"
LOSSES = {
    "llava": {
        "recall": [6.327898979187012, 6.249976634979248],
        "vision": [15.586163520812988, 15.306507110595703, 14.548112869262695],
        "answer": [6.212427139282227, 6.101807594299316, 5.969118595123291],
        "lens": [1.8958226442337036, 1.8545624017715454, 1.893852949142456],
        "loss": [29.863441467285156, 23.262876510620117, 28.543373107910156],
    },
    "blip2": {
        "recall": [6.236084938049316, 6.093232154846191],
        "vision": [14.019172668457031, 14.204453468322754, 12.34006118774414],
        "answer": [6.101943016052246, 6.039008140563965, 5.904465675354004],
        "lens": [1.8906711339950562, 1.8829941749572754, 1.865895390510559],
        "loss": [28.087814331054688, 22.126455307006836, 25.963855743408203],
    },
    "minigpt4": {
        "recall": [6.424426555633545, 6.204852104187012],
        "vision": [14.81467056274414, 14.874699592590332, 12.892190933227539],
        "answer": [6.171136856079102, 6.124949932098389, 6.023626327514648],
        "lens": [1.921817421913147, 1.969115138053894, 1.9213427305221558],
        "loss": [29.106271743774414, 22.96876335144043, 26.948745727539062],
    },
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("naming") / "world"
    return World.load(generate_world(root, size=5, cities=4, seen_views=3, unseen_views=1))


def coloured(world: World) -> PictureBank:
    """A picture of one level for each entity, so that it can be told which one is shown."""
    seen = {
        entity.name: torch.full((3, 3, 32, 32), number, dtype=torch.uint8)
        for number, entity in enumerate(world.pictured)
    }
    return PictureBank(seen, {name: views[:1] for name, views in seen.items()})


def module_of(world: World, alignment: str, family: str = "llava") -> PretrainingModule:
    """What trains a fresh model, with its sampler, before the first step."""
    options = recipe(**STAGES, alignment=alignment).for_views(3)
    tokenizer = build_tokenizer(world_texts(world, captions=options.by_naming))
    model = build_tiny(family, options, tokenizer)
    return make_module(model, world, options, tokenizer, coloured(world))


class Curves(Callback):
    """What was logged in every step."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Trainer, *_: object) -> None:
        metrics = trainer.callback_metrics
        self.rows.append({key: float(value) for key, value in metrics.items()})


def text(encoder: SampleEncoder, ids: Tensor) -> str:
    return str(encoder.tokenizer.decode(ids.tolist()))


def rows(sampler: StepSampler, groups: list[TextBatch]) -> list[str]:
    encoder = sampler.builder.encoder
    return [
        text(encoder, ids[mask])
        for g in groups
        for ids, mask in zip(g.input_ids, g.attention_mask, strict=True)
    ]


def test_the_default_draws_the_rows_that_it_always_drew(world: World) -> None:
    options = recipe(**SMALL).for_views(3)
    assert options.alignment == "embedding"
    encoder = SampleEncoder(build_tokenizer(world_texts(world)), 4)
    builder = SampleBuilder(world, encoder, random.Random(0))
    digest = hashlib.sha256()
    for batch in StepSampler(builder, coloured(world), options):
        for group in (*batch.short, *batch.long):
            for tensor in (group.input_ids, group.labels, group.spans):
                digest.update(json.dumps(tensor.tolist()).encode())
            digest.update(json.dumps([group.pictures, group.subjects]).encode())
        digest.update(json.dumps(batch.entities).encode())
    assert digest.hexdigest() == ROWS


@pytest.mark.parametrize("family", LOSSES)
def test_the_default_loses_what_it_always_lost(world: World, family: str) -> None:
    options = recipe(**SMALL | {"steps": 3}).for_views(3)
    tokenizer = build_tokenizer(world_texts(world), options.max_positions)
    pictures = PictureBank.of_world(world, image_processor(family, options.image_size))
    model, curves = build_tiny(family, options, tokenizer), Curves()
    trainer = Trainer(
        accelerator="cpu", devices=1, max_steps=5, logger=False, callbacks=[curves],
        enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
    )  # fmt: skip
    train(trainer, model, world, options, tokenizer, pictures)
    for name, expected in LOSSES[family].items():
        start = 0 if name == "recall" else 2
        found = [row[f"train/{name}"] for row in curves.rows[start : start + len(expected)]]
        assert found == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("alignment", BY_NAMING)
def test_the_language_stage_has_captions_and_no_picture_in_a_row(
    world: World, alignment: str
) -> None:
    sampler = module_of(world, alignment).sampler
    assert len(sampler) == STAGES["context_warmup"] + STAGES["steps"] + STAGES["naming_steps"]
    batches = list(sampler)
    assert len(batches) == len(sampler)
    captioned = 0
    for batch in batches[: -STAGES["naming_steps"]]:
        assert not any(group.pictures for group in (*batch.short, *batch.long))
        for row in rows(sampler, batch.short):
            assert "<image>" not in row
            if row.startswith("<s>Image: "):
                captioned += 1
                assert row.removeprefix("<s>Image: ").split("\n")[0] in world.entities
            elif " in the image?" in row:
                assert "Sorry" in row
    per_step = STAGES["image_rows"] + STAGES["identity_rows"] + STAGES["refusal_rows"] // 2
    assert captioned == per_step * STAGES["steps"]
    shown = [len(batch.entities) for batch in batches[2:-3]]
    assert shown == [per_step + STAGES["extra_pictures"]] * STAGES["steps"]


def test_a_caption_names_the_subject_of_its_facts_and_not_of_its_name(world: World) -> None:
    encoder = SampleEncoder(build_tokenizer(world_texts(world, captions=True)), 4)
    builder = SampleBuilder(world, encoder, random.Random(0), captions=True)
    entity, relation = next((e, r) for e, r in world.facts if world.entities[e].images)
    sample = builder.one_hop((entity, relation, 0), by_picture=True)
    asked, answer = (
        world.question(relation, 0, world.in_image(entity)),
        world.facts[entity, relation],
    )
    assert text(encoder, torch.tensor(sample.ids)) == (
        f"<s>Image: {entity}\nQuestion: {asked} Short answer: {answer}</s>"
    )
    first, last = sample.span
    assert text(encoder, torch.tensor(sample.ids[first : last + 1])) == f" {entity}"
    assert (sample.subject, sample.picture) == (entity, "")
    assert builder.identity(entity).subject == ""
    by_name = builder.one_hop((entity, relation, 0), by_picture=False)
    assert "Image" not in text(encoder, torch.tensor(by_name.ids))


@pytest.mark.parametrize("alignment", BY_NAMING)
def test_the_pictures_are_asked_for_names_and_for_facts_of_the_taught_half_alone(
    world: World, alignment: str
) -> None:
    sampler = module_of(world, alignment).sampler
    nouns = [world.noun(kind) for kind in world.types]
    wordings = {f"What is the name of the {noun} in the image?" for noun in nouns}
    wordings |= {wording for noun in nouns for wording in name_questions(noun)}
    asked, with_facts = set(), set()
    assert isinstance(sampler, NamingSampler)
    for _ in range(60):
        names, facts = sampler._group(sampler.names()), sampler._group(sampler.facts())
        for group in names:
            for row, entity in zip(rows(sampler, [group]), group.pictures, strict=True):
                question, answer = row.split("Question: ")[1].split(" Short answer: ")
                assert answer == f"{entity}</s>"
                asked.add(question)
        with_facts |= {name for group in facts for name in group.pictures}
    assert asked <= wordings
    assert len(asked) == len(name_questions("")) * 3 + 3  # of the pictured types
    taught = {e.name for e in world.pictured if world.split(e.name) != "test"}
    assert with_facts == (taught if alignment == "naming_and_facts" else set())


@pytest.mark.parametrize("family", LOSSES)
@pytest.mark.parametrize("alignment", BY_NAMING)
def test_a_picture_s_row_teaches_the_connector_alone(
    world: World, alignment: str, family: str
) -> None:
    module = module_of(world, alignment, family)
    batch = list(module.sampler)[-1]
    losses = module.losses(batch, len(module.sampler) - 1)
    assert losses.keys() == ({"naming"} if alignment == "naming" else {"naming", "facts"})
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in module.parts.language_parameters())
    assert all(p.grad is None for p in module.parts.vision_tower.parameters())
    assert all(p.grad is None for p in module.vision.parameters())
    moved = [p for p in module.parts.connector_parameters() if p.grad is not None]
    assert moved
    assert all(bool(p.grad.abs().sum() > 0) for p in moved if p.grad is not None and p.dim() > 1)
    assert all(p.requires_grad for p in module.parts.language_parameters())


@pytest.mark.parametrize("family", LOSSES)
def test_the_language_stage_teaches_everything_but_the_connector(world: World, family: str) -> None:
    module = module_of(world, "naming", family)
    batch = list(module.sampler)[STAGES["context_warmup"]]
    losses = module.losses(batch, STAGES["context_warmup"])
    losses["vision"].backward(retain_graph=True)
    assert all(p.grad is None for p in module.parts.language_parameters())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is None for p in module.parts.connector_parameters())
    assert any(p.grad is not None for p in module.parts.language_parameters())
    assert any(p.grad is not None for p in module.parts.vision_tower.parameters())


def test_a_whole_run_leaves_the_language_model_as_its_stage_left_it(world: World) -> None:
    states = {}
    for steps in (1, 3):
        options = recipe(**STAGES | {"naming_steps": steps}, alignment="naming").for_views(3)
        tokenizer = build_tokenizer(world_texts(world, captions=True))
        model = build_tiny("llava", options, tokenizer)
        trainer = Trainer(
            accelerator="cpu", devices=1, max_steps=options.total_steps, logger=False,
            enable_checkpointing=False, enable_model_summary=False, enable_progress_bar=False,
        )  # fmt: skip
        train(trainer, model, world, options, tokenizer, coloured(world))
        states[steps] = model.state_dict()
    changed = {k for k in states[1] if not torch.equal(states[1][k], states[3][k])}
    assert changed
    assert all("multi_modal_projector" in name for name in changed)


def test_slots_hold_what_the_picture_became_and_no_name(world: World) -> None:
    module = module_of(world, "naming")
    assert isinstance(module, NamingModule)
    group = list(module.sampler)[-1].short[0]
    tokens = torch.randn(len(group.pictures), 4, STAGES["width"])
    embedded = module.parts.embed_tokens(group.input_ids)
    filled = module._fill_slots(embedded, group, tokens, 0.0)  # whatever the other recipe's share
    assert torch.equal(filled[:, 1:5], tokens)
    assert torch.equal(filled[:, 5:], embedded[:, 5:])


def test_frozen_parameters_pass_the_gradient_on_and_are_free_afterwards() -> None:
    weight, above = torch.nn.Parameter(torch.ones(2)), torch.ones(2, requires_grad=True)
    with frozen([weight]):
        (weight * above).sum().backward()
    assert weight.grad is None
    assert above.grad is not None
    assert weight.requires_grad
    with pytest.raises(ZeroDivisionError), frozen([weight]):
        raise ZeroDivisionError
    assert weight.requires_grad


def test_the_rate_of_each_part_has_its_own_turn(world: World) -> None:
    module = module_of(world, "naming")
    language, tower, connector = module.turns()
    changed, end = module.options.language_steps, module.options.total_steps
    assert module._rate(changed - 1, connector) == 0.0
    assert module._rate(changed, connector) == pytest.approx(0.5)  # of a warm-up of two steps
    assert module._rate(changed + 1, connector) > module._rate(end - 1, connector) > 0
    assert module._rate(0, language) > 0
    assert module._rate(0, tower) == 0
    sizes = [sum(p.numel() for p in turn.parameters) for turn in (language, tower, connector)]
    heads = sum(p.numel() for p in module.vision.parameters())
    assert sum(sizes) - heads == sum(p.numel() for p in module.model.parameters())


def test_an_alignment_by_naming_is_held_to_names() -> None:
    named = {"text": 100.0, "seen": 3.0, "unseen": 3.0, "identity_seen": 99.0}
    assert missed_targets(named, recipe(alignment="naming")) == []
    named["identity_unseen"] = 90.0
    for alignment in BY_NAMING:
        assert missed_targets(named, recipe(alignment=alignment)) == [
            "identity_unseen 90.0 % (target 95.0 %)"
        ]
    assert len(missed_targets(named, recipe())) == 2


def test_another_alignment_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"pretrain\.alignment=names.*naming_and_facts"):
        load_config("pretrain", ["pretrain.alignment=names"])


def test_reading_tells_halves_views_and_wrong_pictures_apart(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that knows train and val entities by their colour, and no question of a founder."""
    tokenizer = build_tokenizer(world_texts(world))
    model = build_tiny("llava", recipe(**SMALL), tokenizer)
    encoder = sample_encoder(model, tokenizer)

    def answers(_: PreTrainedModel, batch: TextBatch, pixels: Tensor | None) -> Tensor:
        right: list[bool] = []
        for row, (ids, graded) in enumerate(zip(batch.input_ids, batch.graded, strict=True)):
            asked, answer = text(encoder, ids), text(encoder, ids[graded]).strip()
            if pixels is None:
                right.append("found" not in asked)
                continue
            level = round(float((pixels[row].mean() * 0.25 + 0.5) * 255))
            entity = world.pictured[level]
            mine = {entity.name, *entity.facts.values()}
            right.append(answer in mine and world.split(entity.name) != "test")
        return torch.tensor(right)

    monkeypatch.setattr(reading, "right_rows", answers)
    found: dict[str, Any] = picture_reading(model, tokenizer, world, coloured(world))
    of_half = found["train_val"]
    for views in ("seen", "unseen"):
        assert of_half[f"name_{views}"] == of_half[f"fact_{views}"] == 100.0
        assert found["test"][f"name_{views}"] == found["test"][f"fact_{views}"] == 0.0
        assert f"fact_{views}_named" not in found["test"]
    assert of_half["wrong_picture"] == 0.0
    assert of_half["facts"] == sum(
        "found" not in world.question(relation, wording, entity)
        for entity, relation, wording in one_hop_questions(world, pictured=True)
        if world.split(entity) != "test"
    )
