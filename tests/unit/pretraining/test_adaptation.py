"""The adapter: what it learns from, what it leaves alone, and that it is what is stored."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from configs.around import AdaptationOptions
from datamodules.world import World
from errors import ConfigError, DataError, ModelError
from lightning_modules.editor_training import cosine
from models.language_model import LanguageModel
from models.parts_folder import merge
from pretraining.language.adaptation import (
    AdaptationModule,
    FactSampler,
    adapt,
    with_adapter,
)
from pretraining.language.facts import teachable
from pretraining.language.own_text import sample
from pretraining.stages import CountedOn, Stages
from tests.language_worlds import adaptation_options, around_config, small_world, text_of
from tests.language_worlds import tiny_language as saved_language

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return small_world(tmp_path_factory.mktemp("adaptation") / "world")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("language") / "llama"


@pytest.fixture
def language(folder: Path) -> LanguageModel:
    return saved_language(folder)


@pytest.fixture(scope="module")
def vocabulary(folder: Path) -> LanguageModel:
    return saved_language(folder)


def stages() -> Stages:
    trainer = around_config(
        "model=smollm_llava", "trainer.accelerator=cpu", "trainer.enable_progress_bar=false"
    ).trainer
    return Stages(trainer, CPU)


def ids_of(language: LanguageModel) -> Tensor:
    return language.tokenizer("Question: Who founded it?", return_tensors="pt").input_ids


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 30),
    own_every=st.integers(1, 3),
)
def test_no_fact_of_the_test_half_is_ever_learned(
    world: World, vocabulary: LanguageModel, seed: int, rows: int, own_every: int
) -> None:
    options = adaptation_options(rows=rows, own_every=own_every)
    own = torch.ones(3, 9, dtype=torch.long)
    sampler = FactSampler(world, vocabulary.tokenizer, own, options, seed)
    taught = {
        f"Question: {world.question(relation, wording, name)} Short answer: {value}"
        for (name, relation), value in world.facts.items()
        if world.split(name) in ("train", "val")
        for wording in range(len(world.relations[relation].wordings))
    }
    end, seen = vocabulary.tokenizer.eos_token_id, set()
    steps = -(-len(sampler.facts) // rows)
    for step, batch in enumerate(islice(sampler, steps)):
        assert len(batch.input_ids) == rows
        assert len(batch.own) == (0 if step % own_every else options.own_rows)
        for ids, present, asked in zip(
            batch.input_ids, batch.attention_mask.bool(), batch.answer_mask, strict=True
        ):
            text = text_of(sampler.encoder, ids[present].tolist())
            assert text in taught
            learned = ids[asked].tolist()
            assert learned[-1] == end == ids[present][-1]
            assert text.endswith(text_of(sampler.encoder, learned[:-1]))
            seen.add(text)
    # Every fact once before any comes again.
    facts = [each.fact for drawn in islice(sampler.steps(), steps) for each in drawn]
    assert set(facts) == set(teachable(world))
    assert len(set(facts[: len(sampler.facts)])) == len(sampler.facts)


def test_all_wordings_are_learned(world: World, vocabulary: LanguageModel) -> None:
    sampler = FactSampler(
        world, vocabulary.tokenizer, torch.ones(3, 9).long(), adaptation_options(rows=40), 0
    )
    drawn = {(each.fact[1], each.wording) for step in islice(sampler.steps(), 40) for each in step}
    assert drawn == {
        (relation, wording)
        for relation in {fact[1] for fact in teachable(world)}
        for wording in range(len(world.relations[relation].wordings))
    }


def test_a_world_of_test_subjects_alone_teaches_nothing(
    world: World, vocabulary: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(world, "split", lambda _: "test")
    with pytest.raises(DataError, match="no fact of a training or validation subject"):
        FactSampler(world, vocabulary.tokenizer, torch.ones(3, 9), adaptation_options(), 0)


@pytest.mark.parametrize("maps", ["attention", "all"])
@pytest.mark.parametrize("kind", ["llama", "opt"])
def test_the_stored_adapter_merged_is_the_trained_one(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maps: str, kind: str
) -> None:
    """`adapt` leaves the model as it was; its adapter, merged, scores as peft's own did."""
    language = saved_language(tmp_path / kind, kind)
    untouched = copy.deepcopy(language.model.state_dict())
    ids, kept = ids_of(language), {}

    def look(module: AdaptationModule) -> None:
        halves: Mapping[str, Tensor] = {
            name: value.half().float() for name, value in module.adapted.state_dict().items()
        }
        module.adapted.load_state_dict(halves)
        with torch.no_grad():
            kept["scores"] = module.model(input_ids=ids).logits
            kept["names"] = {n for n, p in module.adapted.named_parameters() if p.requires_grad}

    monkeypatch.setattr(AdaptationModule, "on_train_end", look, raising=False)
    options = adaptation_options(maps=maps, steps=6, lr=0.02, warmup_steps=1)
    adapter = adapt(language, world, options, seed=0, stages=stages())
    state = language.model.state_dict()
    assert state.keys() == untouched.keys()
    assert all(torch.equal(state[name], untouched[name]) for name in state)
    assert not any(parameter.requires_grad for parameter in language.model.parameters())
    assert not language.model.training
    before = language.model(input_ids=ids).logits.detach()
    merge(language.model, adapter)
    after = language.model(input_ids=ids).logits.detach()
    torch.testing.assert_close(after, kept["scores"], atol=1e-4, rtol=1e-4)
    assert float((after - before).abs().max()) > 1e-2
    touched = {"q_proj", "k_proj", "v_proj"} if maps == "attention" else {"fc1", "up_proj"}
    assert any(part in name for name in kept["names"] for part in touched)
    is_whole = any("up_proj" in name or "fc1" in name for name in kept["names"])
    assert is_whole == (maps == "all")
    assert not any("lm_head" in name for name in kept["names"])
    assert all(torch.equal(v, v.half().float()) for v in adapter.tensors.values())


def test_one_seed_gives_one_adapter_and_another_another(world: World, folder: Path) -> None:
    found = [
        adapt(saved_language(folder), world, adaptation_options(), seed=seed, stages=stages())
        for seed in (0, 0, 1)
    ]
    first, again, other = (each.tensors for each in found)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_facts_are_learned(
    world: World, language: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = adaptation_options(steps=60, rows=12, lr=0.02, maps="all", own_weight=0.0)
    losses: list[float] = []
    original = AdaptationModule.training_step

    def step(self: AdaptationModule, batch: object, batch_idx: int) -> Tensor:
        loss = original(self, batch, batch_idx)  # type: ignore[arg-type]
        losses.append(float(loss.detach()))
        return loss

    monkeypatch.setattr(AdaptationModule, "training_step", step)
    adapt(language, world, options, seed=0, stages=stages())
    assert len(losses) == 60
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def module_of(language: LanguageModel, **changes: object) -> AdaptationModule:
    options = adaptation_options(**changes)
    return AdaptationModule(with_adapter(language, options, 0), options)


def test_nothing_of_a_fresh_adapter_differs_from_the_model(language: LanguageModel) -> None:
    """Its KL is 0; with another B it is not, and the cross-entropy is the model's own."""
    ids = torch.tensor([[0, 5, 9, 40, 7], [0, 8, 30, 11, 12]])
    module = module_of(language, own_loss="kl")
    assert float(module._own(ids).detach()) == pytest.approx(0.0, abs=1e-6)
    for name, parameter in module.adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    assert float(module._own(ids).detach()) > 1e-3
    scores = module.model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    expected = -scores.gather(-1, ids[:, 1:, None]).mean()
    module.options = AdaptationOptions(
        **module.options.model_dump() | {"own_loss": "cross_entropy"}
    )
    torch.testing.assert_close(module._own(ids), expected, atol=1e-4, rtol=1e-4)


def test_the_rate_is_a_cosine(language: LanguageModel) -> None:
    module = module_of(language, steps=20, warmup_steps=4)
    found = module.configure_optimizers()
    schedule = found["lr_scheduler"]["scheduler"]
    rates = []
    for _ in range(20):
        rates.append(schedule.get_last_lr()[0])
        found["optimizer"].step()
        schedule.step()
    options = module.options
    expected = [options.lr * cosine(i, 20, warmup=4, floor=options.lr_floor) for i in range(20)]
    assert rates == pytest.approx(expected)


def test_a_loss_that_is_not_finite_ends_it(world: World, language: LanguageModel) -> None:
    with pytest.raises(ModelError, match=r"diverged at step .*recipe\.adaptation\.lr=1e\+30"):
        adapt(
            language, world, adaptation_options(lr=1e30, clip=1e30, warmup_steps=1, steps=20),
            seed=0, stages=stages(),
        )  # fmt: skip


def test_own_text_is_drawn_by_the_seed_and_has_no_end(language: LanguageModel) -> None:
    first, again, other = (sample(language, texts=4, tokens=12, seed=seed) for seed in (0, 0, 1))
    assert first.shape == (4, 12)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert bool((first[:, 0] == language.tokenizer.bos_token_id).all())
    assert not bool((first[:, 1:] == language.tokenizer.eos_token_id).any())
    assert sample(language, texts=0, tokens=12, seed=0).shape[0] == 0


def test_own_text_has_the_model_s_own_frequencies(language: LanguageModel) -> None:
    """Of 20,000 texts, the second token: temperature 1, nothing cut off."""
    written = sample(language, texts=20_000, tokens=2, seed=0)[:, 1]
    begin, end = language.tokenizer.bos_token_id, language.tokenizer.eos_token_id
    with torch.no_grad():
        scores = language.model(input_ids=torch.tensor([[begin]])).logits[0, -1]
    scores[[begin, end]] = -torch.inf
    expected = scores.softmax(-1)
    found = torch.bincount(written, minlength=len(scores)) / len(written)
    assert float((found - expected).abs().sum()) / 2 < 0.08
    assert float((expected - 1 / len(scores)).abs().sum()) / 2 > 0.2  # the model has preferences


def test_more_rows_than_texts_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"own_rows=9 .*own_texts=3"):
        adaptation_options(own_rows=9)


class Kept:
    """A logger that keeps what it gets."""

    def __init__(self) -> None:
        self.lines: list[tuple[dict[str, float], int | None]] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.lines.append((metrics, step))


def test_curves_of_stages_follow_each_other() -> None:
    kept = Kept()
    CountedOn(kept, 30).log_metrics({"loss": 1.0}, 4)  # type: ignore[arg-type]
    CountedOn(kept, 30).log_metrics({"loss": 2.0})  # type: ignore[arg-type]
    assert kept.lines == [({"loss": 1.0}, 34), ({"loss": 2.0}, None)]
