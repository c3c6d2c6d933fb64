"""The shipped models are those that their manifests describe, and they know their world."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText, AutoTokenizer

from datamodules.world import World, generate_world
from models.families import FAMILIES
from pretraining.accuracy import evaluate_tiny
from pretraining.editing import EDITORS, findings
from pretraining.pictures import PictureBank
from pretraining.saving import missed_targets
from tests.recipes import recipe

SHIPPED = Path(__file__).parents[3] / "models" / "pretrained"
TWINS = {"llava_tiny": "llava", "blip2_opt_tiny": "blip2", "minigpt4_tiny": "minigpt4"}
MOST_BYTES = 8_000_000
MOST_PARAMETERS = 4_000_000
ASKED = 100  # questions of each kind


def test_every_twin_ships() -> None:
    whole = {path.parent.name for path in SHIPPED.glob("*/config.json")}  # others are parts
    assert whole == TWINS.keys()


@pytest.fixture(params=TWINS)
def folder(request: pytest.FixtureRequest) -> Path:
    return SHIPPED / request.param


@pytest.fixture
def manifest(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return content


def test_files_are_the_manifest_s(folder: Path, manifest: dict[str, Any]) -> None:
    assert manifest["model"] == folder.name
    assert "model.safetensors" in manifest["sha256"]
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest, name
    assert sum(path.stat().st_size for path in folder.iterdir()) <= MOST_BYTES
    assert manifest["parameters"] <= MOST_PARAMETERS


def test_it_was_made_by_the_default_recipe_and_reached_the_targets(
    manifest: dict[str, Any],
) -> None:
    # A number that joined the recipe later stands in later manifests only.
    assert recipe(**manifest["settings"]) == recipe().for_views(40)
    assert missed_targets(manifest["accuracy"], recipe()) == []
    assert manifest["targets_missed"] == []
    assert manifest["editing"].keys() == {"edits", *EDITORS}
    assert manifest["held"] == findings(manifest)


def test_weights_are_stored_in_half_precision(folder: Path) -> None:
    with safe_open(folder / "model.safetensors", "pt") as stored:
        assert {stored.get_slice(name).get_dtype() for name in stored.keys()} == {"F16"}  # noqa: SIM118


@pytest.mark.slow
def test_it_answers_the_generated_world(
    folder: Path, manifest: dict[str, Any], default_world: Path
) -> None:
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = {k: v for k, v in manifest["world"]["generator"].items() if k not in ("name", "version")}
    kept = generate_world(default_world, **made)  # refuses a folder that holds another world
    world = World.load(kept, seed=manifest["world"]["split_seed"])
    processor = FAMILIES[TWINS[folder.name]].images.from_pretrained(folder)
    pictures = PictureBank.of_world(world, processor)
    accuracy = evaluate_tiny(model, tokenizer, world, pictures, limit=ASKED, chains=False)
    # A sample of 100 may miss a few more than all questions do.
    for kind, full in manifest["accuracy"].items():
        if kind in ("text", "seen", "unseen"):
            assert accuracy[kind] >= full - 5, kind
