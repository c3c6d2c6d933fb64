"""The projector, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
)

from datamodules.world import World
from models.language_model import LanguageModel
from pretraining.losses import NameSlots
from pretraining.vision.projector import initialise, new_projector, open_projector
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank, tower_features
from tests.vision_cases import (
    CPU,
    SLOTS,
    WIDTH,
    aligned,
    alignment,
    every_fact,
    random_language,
)


def test_a_projector_begins_white_and_as_large_as_names(bank: ViewBank, tower: TowerResult) -> None:
    vision = tower.open(CPU)
    features = tower_features(vision, bank.pixels, CPU)
    names = 0.3 * torch.randn(20, WIDTH)
    text = LlamaConfig(hidden_size=WIDTH)
    projector = new_projector(CLIPVisionConfig(**tower.config), text)
    initialise(projector, features, names, whiten=True, seed=0)
    projector.requires_grad_(False)
    first = projector.linear_1(features).flatten(0, 1)
    assert bool(first.mean(0).abs().max() < 1e-3)
    assert first.var(0).mean() == pytest.approx(1, abs=0.3)
    assert projector(features).std() == pytest.approx(float(names.std()), rel=1e-4)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "opt"])
@pytest.mark.parametrize("setting", ["embedding", "naming", "naming_and_facts"])
def test_tower_and_language_model_stay_bit_equal(
    world: World, tower: TowerResult, kind: str, setting: Any
) -> None:
    language = random_language(world, kind)
    language.model.train()  # whatever it comes with
    config = language.model.config.to_dict()
    before = copy.deepcopy(language.model.state_dict())
    seen = {name: value.clone() for name, value in tower.state.items()}
    results = [
        aligned(setting, language, tower, world, alignment(4), facts=every_fact(world))
        for _ in range(2)
    ]
    assert language.model.training
    assert language.model.config.to_dict() == config
    assert language.model.config._attn_implementation == "sdpa"
    assert all(parameter.grad is None for parameter in language.model.parameters())
    assert all(torch.equal(v, before[n]) for n, v in language.model.state_dict().items())
    assert all(torch.equal(value, seen[name]) for name, value in tower.state.items())
    for name, value in results[0].state.items():  # one seed, one projector; no dropout drawn
        assert torch.equal(value, results[1].state[name])
    assert results[0].steps == 4


def test_embedding_brings_slots_to_the_name(
    world: World, language: LanguageModel, tower: TowerResult, bank: ViewBank
) -> None:
    def distance(steps: int) -> tuple[float, float]:
        result = aligned("embedding", language, tower, world, alignment(steps))
        projector = open_projector(
            result.state, CLIPVisionConfig(**tower.config), language.model.config
        )
        slots = NameSlots(world.pictured, language.tokenizer, SLOTS)
        features = tower_features(tower.open(CPU), bank.pixels, CPU)
        shown = slots.indices([view.entity for view in bank.views])
        wanted = language.model.get_input_embeddings()(slots.pattern[shown])
        return float((projector(features) - wanted).square().mean()), result.measured["loss"]

    (far, much), (near, little) = distance(1), distance(300)
    assert near < 0.4 * far
    assert little < 0.5 * much


def test_naming_lowers_its_loss_and_stops_once_it_holds(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    options = alignment(40, seen_target=0.0, unseen_target=0.0)
    stopped = aligned("naming", language, tower, world, options)
    assert stopped.steps == stopped.measured["steps"] == 5
    assert [entry["step"] for entry in stopped.measured["validations"]] == [5]
    fixed = aligned("naming", language, tower, world, options, steps=12)
    assert fixed.steps == 12
    started = aligned("naming", language, tower, world, alignment(1))
    taught = aligned("naming", language, tower, world, alignment(80))
    assert taught.measured["loss"] < 0.85 * started.measured["loss"]
