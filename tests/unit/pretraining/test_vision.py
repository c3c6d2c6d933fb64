"""Tower, projector and reading around a tiny random language model."""

from __future__ import annotations

import copy
import random
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaConfig,
    LlavaForConditionalGeneration,
    OPTConfig,
    OPTForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from configs.around import (
    AlignmentOptions,
    AugmentationOptions,
    EmbeddingOptions,
    NamingOptions,
    TowerOptions,
)
from datamodules.world import World, generate_world
from errors import DataError
from models.language_model import LanguageModel
from pretraining.losses import NameSlots
from pretraining.pictures import PictureBank, image_processor, normalise
from pretraining.stages import Stages
from pretraining.tokenizer import build_tokenizer, world_texts
from pretraining.vision import AlignmentResult, align, measure_reading, reading_table, train_tower
from pretraining.vision.alignment import NamingBatches
from pretraining.vision.asking import (
    NAMING_WORDINGS,
    Questioner,
    answer_ids,
    answer_scores,
    answered_right,
)
from pretraining.vision.projector import initialise, new_projector, open_projector
from pretraining.vision.reading import SEEN, UNSEEN, WRONG, fact_pictures
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import FeaturePool, ViewBank, tower_features
from tests.recipes import pretrain_config

CPU = torch.device("cpu")
SCHEDULE: dict[str, Any] = {
    "lr": 3e-3, "warmup_steps": 2, "lr_floor": 0.1, "weight_decay": 0.0, "clip": 1.0,
}  # fmt: skip
VARIED = AugmentationOptions(shift=1, contrast=0.1, offset=4.0, noise=4.0, warp=0.1)
TOWER = TowerOptions(
    **SCHEDULE, steps=60, rows=16, image_size=16, patch_size=8, width=16, layers=1,
    heads=2, mlp_width=32, patch_weight=0.3,
)  # fmt: skip
WIDTH, SLOTS = 32, 4


def alignment(steps: int = 12, **naming: Any) -> AlignmentOptions:
    of_naming: dict[str, Any] = {
        "steps": steps, "rows": 6, "fact_share": 0.5, "validate_every": 5, "validate_pictures": 6,
        "seen_target": 100.0, "unseen_target": 100.0,
    }  # fmt: skip
    return AlignmentOptions(
        draws=2,
        whiten=True,
        embedding=EmbeddingOptions(**SCHEDULE, steps=steps, rows=12, word_weight=0.1),
        naming=NamingOptions(**(SCHEDULE | of_naming | naming)),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve pictured entities of three types."""
    root = tmp_path_factory.mktemp("vision") / "world"
    return World.load(generate_world(root, size=4, cities=3, seen_views=3, unseen_views=2))


@pytest.fixture(scope="module")
def language(world: World) -> LanguageModel:
    return random_language(world)


def random_language(world: World, kind: str = "llama") -> LanguageModel:
    tokenizer = build_tokenizer(world_texts(world) + [
        wording.format(noun=world.noun(kind)) for wording in NAMING_WORDINGS for kind in world.types
    ])  # fmt: skip
    sizes: dict[str, Any] = {
        "vocab_size": len(tokenizer), "hidden_size": WIDTH, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    torch.manual_seed(3)
    if kind == "opt":
        model: Any = OPTForCausalLM(
            OPTConfig(**sizes, ffn_dim=48, word_embed_proj_dim=WIDTH, dropout=0.5)
        )
    else:
        config, of = {
            "llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        }[kind]  # fmt: skip
        model = of(config(
            **sizes, num_key_value_heads=1, intermediate_size=48, initializer_range=0.2,
            tie_word_embeddings=True,
        ))  # fmt: skip
    return LanguageModel(model.eval().requires_grad_(False), tokenizer, {})


@pytest.fixture(scope="module")
def pictures(world: World) -> PictureBank:
    return PictureBank.of_world(world, image_processor("llava", TOWER.image_size))


@pytest.fixture(scope="module")
def tower(world: World, pictures: PictureBank) -> TowerResult:
    return taught(world, pictures)


def taught(world: World, pictures: PictureBank, *, seed: int = 0, **changes: Any) -> TowerResult:
    options = TOWER.model_copy(update=changes)
    return train_tower(world, pictures, options, VARIED, seed=seed, stages=stages())


def aligned(
    setting: Any,
    language: LanguageModel,
    tower: TowerResult,
    world: World,
    options: AlignmentOptions,
    *,
    facts: Collection[tuple[str, str]] = (),
    steps: int | None = None,
) -> AlignmentResult:
    return align(
        setting, language, tower, world,
        PictureBank.of_world(world, image_processor("llava", tower.image_size)), options, VARIED,
        facts=facts, seed=0, stages=stages(), steps=steps,
    )  # fmt: skip


@pytest.fixture(scope="module")
def bank(world: World, pictures: PictureBank) -> ViewBank:
    return ViewBank.of(world, pictures)


def stages() -> Stages:
    return Stages(pretrain_config("trainer.enable_progress_bar=false").trainer, CPU)


def every_fact(world: World) -> list[tuple[str, str]]:
    return [fact for fact in world.facts if world.entities[fact[0]].images]


def batches(
    world: World, language: LanguageModel, tower: TowerResult, *, facts: bool, steps: int
) -> NamingBatches:
    shown = PictureBank.of_world(world, image_processor("llava", tower.image_size))
    pool = FeaturePool(
        tower.open(CPU), ViewBank.of(world, shown), VARIED, draws=2, seed=0, device=CPU
    )
    known = every_fact(world) if facts else ()
    questioner = Questioner(world, language.tokenizer, SLOTS)
    return NamingBatches(questioner, pool, alignment(steps).naming, known, seed=0)


def texts(language: LanguageModel, some: NamingBatches) -> Iterator[tuple[str, str]]:
    """(whole row, what is learned of it) as text, of every row of every step."""
    for step in some:
        for asked in step:
            rows = asked.rows
            for ids, here, learned, slots in zip(*rows, strict=True):
                shown = language.tokenizer.decode(ids[here & ~slots])
                yield shown, language.tokenizer.decode(ids[learned])


# --- pictures and tower


def test_the_bank_holds_every_view_with_its_kind(world: World, bank: ViewBank) -> None:
    assert len(bank.views) == len(world.pictured) * 5 == len(bank.pixels)
    seen, unseen = bank.by_entity(unseen=False), bank.by_entity(unseen=True)
    for entity in world.pictured:
        assert [len(seen[entity.name]), len(unseen[entity.name])] == [3, 2]
    for place in (0, 4, 17):
        view = bank.views[place]
        entity = world.entities[view.entity]
        path = entity.images[view.kind]
        assert path in (entity.unseen if view.unseen else entity.seen)
        with Image.open(path) as picture:
            expected = picture.convert("RGB").resize((16, 16), Image.Resampling.BICUBIC)
        pixels = torch.from_numpy(np.array(expected)).permute(2, 0, 1).int()
        assert bool((pixels - bank.pixels[place].int()).abs().max() <= 1)


def test_the_tower_learns_to_tell_entities_apart(
    world: World, pictures: PictureBank, tower: TowerResult
) -> None:
    fresh = taught(world, pictures, lr=1e-9).accuracies
    assert tower.accuracies["seen"] > fresh["seen"] + 30
    kinds = {view for entity in world.pictured for view in entity.images}
    assert tower.accuracies.keys() == {"seen", "unseen", *(f"view {kind}" for kind in kinds)}
    again, other = taught(world, pictures), taught(world, pictures, seed=1)
    for name, value in tower.state.items():
        assert torch.equal(value, again.state[name])
    assert not all(torch.equal(v, other.state[n]) for n, v in tower.state.items())


def test_the_tower_learns_from_no_unseen_view(
    world: World, pictures: PictureBank, tower: TowerResult
) -> None:
    black = {name: torch.zeros_like(views) for name, views in pictures.unseen.items()}
    again = taught(world, PictureBank(pictures.seen, black))
    assert all(torch.equal(value, again.state[name]) for name, value in tower.state.items())
    assert again.accuracies["unseen"] < tower.accuracies["unseen"]


# --- projector


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


# --- rows


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


def test_no_fact_to_ask_is_refused(
    world: World, language: LanguageModel, tower: TowerResult
) -> None:
    tested = [fact for fact in every_fact(world) if world.split(fact[0]) == "test"]
    with pytest.raises(DataError, match="none is about such an entity"):
        aligned("naming_and_facts", language, tower, world, alignment(), facts=tested)


# --- alignment


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


# --- reading


Reader = tuple[LanguageModel, dict[str, Tensor]]


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
