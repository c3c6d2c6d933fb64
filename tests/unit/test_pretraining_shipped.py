"""The shipped model is the one that its manifest describes, and it knows its world."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoTokenizer,
    CLIPImageProcessorPil,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerFast,
)

from datamodules.world import World, generate_world
from lightning_modules.pretraining import PretrainSettings, evaluate_tiny, missed_targets
from lightning_modules.pretraining.findings import findings
from lightning_modules.pretraining.pictures import PictureBank

FOLDER = Path(__file__).parents[2] / "models" / "pretrained" / "llava_tiny"
MOST_BYTES = 8_000_000
MOST_PARAMETERS = 4_000_000
ASKED = 100  # questions of each kind


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
    return content


@pytest.fixture(scope="module")
def model() -> LlavaForConditionalGeneration:
    return LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(FOLDER)


def test_files_are_the_manifest_s(manifest: dict[str, Any]) -> None:
    for name, digest in manifest["sha256"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == digest, name
    assert (FOLDER / "model.safetensors").stat().st_size <= MOST_BYTES
    assert manifest["parameters"] <= MOST_PARAMETERS


def test_it_was_made_by_the_default_recipe_and_reached_the_targets(
    manifest: dict[str, Any],
) -> None:
    assert manifest["settings"] == PretrainSettings().for_views(40).as_dict()
    assert missed_targets(manifest["accuracy"], PretrainSettings()) == []
    assert manifest["targets_missed"] == []
    assert manifest["held"] == findings(manifest)


def test_weights_are_stored_in_half_precision() -> None:
    stored = LlavaForConditionalGeneration.from_pretrained(FOLDER, dtype="auto")
    assert {parameter.dtype for parameter in stored.parameters()} == {torch.float16}


@pytest.mark.slow
def test_it_answers_the_generated_world(
    model: LlavaForConditionalGeneration,
    tokenizer: PreTrainedTokenizerFast,
    manifest: dict[str, Any],
    tmp_path: Path,
) -> None:
    made = {k: v for k, v in manifest["world"]["generator"].items() if k not in ("name", "version")}
    world = World.load(
        generate_world(tmp_path / "world", **made), seed=manifest["world"]["split_seed"]
    )
    pictures = PictureBank.of_world(world, CLIPImageProcessorPil.from_pretrained(FOLDER))
    found = evaluate_tiny(model, tokenizer, world, pictures, limit=ASKED, chains=False)
    # A sample of 100 may miss a few more than all questions do.
    for kind, full in manifest["accuracy"].items():
        if kind in ("text", "seen", "unseen"):
            assert found[kind] >= full - 5, kind
