"""A few steps of the real recipe on a very small world, and everything around them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoTokenizer

from configs.check import load_config
from datamodules.world import World, generate_world
from errors import ConfigError, DataError, ModelError
from models.families import FAMILIES
from models.loading import load_model
from models.processor import load_processor
from models.rows import RowText
from pretraining.accuracy import sample_encoder
from pretraining.build import build_tiny
from pretraining.losses import NameSlots, SubjectLens, VisionLosses
from pretraining.parts import match_scale, parts_of
from pretraining.pictures import (
    PictureBank,
    augment,
    image_processor,
    normalise,
)
from pretraining.run import pretrain, reassess
from pretraining.saving import missed_targets
from pretraining.tokenizer import build_tokenizer, world_texts
from runner.assembly import make_encoder
from tests.recipes import SMALL, folder_words, pretrain_config, recipe

TWINS = {"llava": "llava_tiny", "blip2": "blip2_opt_tiny", "minigpt4": "minigpt4_tiny"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("run") / "world"
    return World.load(generate_world(root, size=5, cities=4, seen_views=3, unseen_views=1))


@pytest.fixture(scope="module")
def taught(world: World, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("taught")
    for family in TWINS:
        teach(world, root / family, family)
    return {family: root / family for family in TWINS}


def teach(world: World, folder: Path, family: str = "llava") -> dict[str, Any]:
    cfg = pretrain_config(*folder_words(world.root, TWINS[family]), **SMALL)
    return pretrain(cfg, world, folder)


@pytest.mark.parametrize("family", TWINS)
def test_the_folder_loads_with_the_library_s_own_classes(
    taught: dict[str, Path], world: World, family: str
) -> None:
    folder = taught[family]
    model, loading = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True
    )
    assert issubclass(FAMILIES[family].hf, type(model))
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    parts = parts_of(model)
    assert parts.decoder.head.weight is parts.embeddings
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer) == model.config.text_config.vocab_size
    processor = FAMILIES[family].images.from_pretrained(folder)
    assert processor.size == {"height": 32, "width": 32}
    ids = tokenizer(f"Question: Who founded {next(iter(world.entities))}? Short answer:")
    logits = parts.text_model(input_ids=torch.tensor([ids["input_ids"]])).logits
    assert bool(logits.isfinite().all())


@pytest.mark.parametrize("family", TWINS)
def test_what_was_trained_is_what_an_editor_sees(
    taught: dict[str, Path], world: World, family: str
) -> None:
    """The rows of pretraining and those of the benchmark are the same tokens, read alike."""
    folder = taught[family]
    processor, model = load_processor(family, str(folder)), load_model(family, str(folder))
    encoder = make_encoder(processor, "default")
    parts = parts_of(model.hf)
    entity = world.pictured[0]
    relation, answer = next(iter(entity.facts.items()))
    question = world.question(relation, 0, world.in_image(entity.name))
    row = encoder.encode(question, answer, picture=True)
    taught_row = sample_encoder(model.hf, processor.tokenizer).question(
        question, answer, picture=entity.name
    )
    assert tuple(row.ids) == taught_row.ids[:-1]
    with Image.open(entity.seen[0]) as picture:
        pixels = processor.pixels(picture.convert("RGB"))[None]
    text = RowText(question, answer, picture=True)
    rows = encoder.rows([row], [text], edit_index=[0], image_index=[0], pixel_values=pixels)
    expected = parts.logits(rows.input_ids, rows.attention_mask, pixels)
    torch.testing.assert_close(model(rows), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", TWINS)
def test_the_manifest_says_how_and_how_well(
    taught: dict[str, Path], world: World, family: str
) -> None:
    manifest = json.loads((taught[family] / "manifest.json").read_text())
    assert manifest["model"] == TWINS[family]
    assert manifest["world"]["digest"] == world.digest
    assert manifest["world"]["generator"]["size"] == 5
    assert manifest["settings"] == {**recipe(**SMALL).model_dump(), "warp": 0.2}
    assert {"text", "seen", "unseen", "chain_answer"} <= manifest["accuracy"].keys()
    assert "model.safetensors" in manifest["sha256"]
    # Five steps teach nothing, and it says so: there is no fact to edit or to trace.
    assert manifest["targets_missed"]
    assert (manifest["editing"], manifest["causal_trace"]) == ({}, {})
    assert not any(manifest["held"].values())


def test_a_model_assessed_anew_has_the_same_manifest(
    taught: dict[str, Path], world: World, tmp_path: Path
) -> None:
    folder = shutil.copytree(taught["llava"], tmp_path / "model")
    before = json.loads((folder / "manifest.json").read_text())
    words = [*folder_words(world.root), f"model.path={folder}"]
    assert reassess(pretrain_config(*words)) == before
    assert json.loads((folder / "manifest.json").read_text()) == before
    other = generate_world(tmp_path / "other", size=6, cities=4, seen_views=1, unseen_views=1)
    words = [*folder_words(other), f"model.path={folder}"]
    with pytest.raises(ConfigError, match=r"is not the world that .* was taught"):
        reassess(pretrain_config(*words))


def test_the_same_seed_gives_the_same_weights(
    taught: dict[str, Path], world: World, tmp_path: Path
) -> None:
    again = teach(world, tmp_path)
    first = json.loads((taught["llava"] / "manifest.json").read_text())
    assert again["sha256"] == first["sha256"]


def test_a_missed_target_fails_and_leaves_the_folder_as_it_was(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=r"text .* \(target 99\.0 %\).*gate=false"):
        pretrain(pretrain_config(*folder_words(world.root), "gate=true", **SMALL), world, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["rejected"]
    assert (tmp_path / "rejected" / "manifest.json").is_file()


@pytest.mark.parametrize("family", TWINS)
def test_training_moves_every_part(world: World, taught: dict[str, Path], family: str) -> None:
    tokenizer = build_tokenizer(world_texts(world))
    fresh = build_tiny(family, recipe(**SMALL), tokenizer)
    model = AutoModelForImageTextToText.from_pretrained(taught[family], dtype=torch.float32)
    # The key bias reaches no loss; in a CLIP tower the class token's norm does not either.
    idle = {"k_proj.bias", "attention.key.bias"}
    idle |= {"post_layernorm", "class_embedding"} if family == "llava" else set()
    for name, before in fresh.named_parameters():
        after = model.get_parameter(name)
        if not any(part in name for part in idle):
            assert not torch.allclose(before, after, atol=1e-4), name


def test_a_world_without_pictures_is_refused(tmp_path: Path) -> None:
    entities = [
        {"id": name, "name": name, "facts": {"capital": f"{name}ville"}}
        for name in ("Ax", "Bo", "Cy")
    ]
    (tmp_path / "entities.json").write_text(json.dumps(entities))
    with pytest.raises(DataError, match="no entity of this world has a picture"):
        pretrain(pretrain_config(**SMALL), World.load(tmp_path), tmp_path / "out")


def test_settings_that_cannot_be_built_are_all_named() -> None:
    wrong = ("width=30", "image_size=30", "lens_layer=9", "slots_start=0.9")
    with pytest.raises(ConfigError) as error:
        load_config("pretrain", [f"pretrain.{word}" for word in wrong])
    for word in wrong:
        assert word in str(error.value)
    with pytest.raises(ConfigError) as error:
        load_config("pretrain", ["pretrain.steps=0", "pretrain.qformer_layers=0"])
    for word in ("pretrain.steps=0", "pretrain.qformer_layers=0"):
        assert word in str(error.value)


def test_few_views_are_warped_unless_told_otherwise() -> None:
    assert recipe().for_views(4).warp == 0.2
    assert recipe().for_views(40).warp == 0.0
    assert recipe(warp=0.1).for_views(4).warp == 0.1


def test_targets_that_are_not_measured_are_not_missed() -> None:
    settings = recipe()
    assert missed_targets({"text": 99.0, "seen": 97.0}, settings) == []
    assert missed_targets({"text": 98.9, "unseen": 94.0}, settings) == [
        "text 98.9 % (target 99.0 %)",
        "unseen 94.0 % (target 95.0 %)",
    ]


@pytest.mark.parametrize("family", TWINS)
def test_normalised_tensors_are_what_the_processor_gives(world: World, family: str) -> None:
    processor = image_processor(family, 32)
    bank = PictureBank.of_world(world, processor)
    for entity in world.pictured[:3]:
        with Image.open(entity.seen[0]) as picture:
            expected = processor(picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(normalise(bank.seen[entity.name][0]), expected)


def test_augmentation_without_strength_changes_nothing() -> None:
    off = recipe(shift=0, contrast=0.0, offset=0.0, noise=0.0, warp=0.0)
    pixels = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    torch.testing.assert_close(augment(pixels, off, generator), pixels.float(), atol=1e-2, rtol=0)
    moved = augment(pixels, recipe(warp=0.2), generator)
    assert float((moved - pixels.float()).abs().mean()) > 5
    assert float(moved.min()) >= 0
    assert float(moved.max()) <= 255


@pytest.mark.parametrize("family", TWINS)
def test_image_tokens_start_as_large_as_name_embeddings(world: World, family: str) -> None:
    settings = recipe(**SMALL)
    tokenizer = build_tokenizer(world_texts(world))
    parts = parts_of(build_tiny(family, settings, tokenizer))
    slots = NameSlots(world.pictured, tokenizer, settings.image_tokens)
    pixels = torch.randn(6, 3, 32, 32)
    match_scale(parts, pixels, slots.words)
    tokens = parts.project(parts.patches(pixels))
    expected = parts.embeddings[slots.words].std()
    torch.testing.assert_close(tokens.std(), expected, rtol=1e-3, atol=0)


def test_the_lens_reads_the_facts_of_the_named_subject(world: World) -> None:
    tokenizer = build_tokenizer(world_texts(world))
    lens = SubjectLens(world, tokenizer)
    name = next(name for name in world.entities if len(world.entities[name].facts) == 3)
    row = lens.index[name]
    targets = [int(t) for t, w in zip(lens.targets[row], lens.weights[row], strict=True) if w > 0]
    expected = [
        tokenizer(" " + value, add_special_tokens=False)["input_ids"][-1]
        for value in world.entities[name].facts.values()
    ]
    assert targets == expected
    assert float(lens.weights[row].sum()) == pytest.approx(1.0)


def test_a_world_without_attributes_has_no_attribute_loss(tmp_path: Path, world: World) -> None:
    root = shutil.copytree(world.root, tmp_path / "bare")
    entities = json.loads((root / "entities.json").read_text())
    for entity in entities:
        entity.pop("attributes", None)
    (root / "entities.json").write_text(json.dumps(entities))
    described = json.loads((root / "world.json").read_text())
    described.pop("attributes", None)
    (root / "world.json").write_text(json.dumps(described))
    bare = World.load(root)
    settings = recipe(**SMALL)
    slots = NameSlots(bare.pictured, build_tokenizer(world_texts(bare)), settings.image_tokens)
    losses = VisionLosses(bare, slots, settings)
    values = losses(
        torch.randn(2, 4, 32), torch.randn(2, 4, 32), torch.randn(3000, 32), torch.tensor([0, 1])
    )
    assert float(values["attribute"]) == 0.0
    assert float(values["identity"]) > 0.0


def test_a_world_whose_rows_need_more_positions_is_not_taught(world: World, tmp_path: Path) -> None:
    cfg = pretrain_config(*folder_words(world.root, TWINS["llava"]), **SMALL, max_positions=12)
    with pytest.raises(ConfigError) as error:
        pretrain(cfg, world, tmp_path / "o")
    for part in ("pretrain.max_positions=12", "the row '", " takes ", "tokens"):
        assert part in str(error.value)
    assert not (tmp_path / "o").exists()
