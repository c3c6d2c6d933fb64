"""The shipped parts, on a sample, against docs/alignment.md: names read, and facts by setting."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from transformers import CLIPVisionConfig

from datamodules.countries.packages import missing_packages
from datamodules.world import World
from models.gguf_file import INSTALL, MODULE
from models.language_model import LanguageModel, open_language_model
from models.parts_folder import Parts, merge, read_parts
from pretraining.pictures import PictureBank, image_processor
from pretraining.vision.asking import NameValidation, Questioner, answered_right
from pretraining.vision.projector import open_projector
from pretraining.vision.reading import SEEN, WRONG, fact_pictures
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank, tower_features
from tests.vision_cases import CPU, alignment

pytestmark = [
    pytest.mark.quality,
    pytest.mark.skipif(find_spec(MODULE) is None, reason=f"no package {MODULE}: {INSTALL}"),
    pytest.mark.skipif(bool(missing_packages()), reason=f"not installed: {missing_packages()}"),
]
FACTS = 60


class Sample:
    """The shipped parts in front of the language model that they were made for."""

    def __init__(self, world: World, parts: Parts, language: LanguageModel) -> None:
        self.world, self.parts, self.language = world, parts, language
        tower = TowerResult(dict(parts.tower.config), dict(parts.tower.state), {})
        pictures = PictureBank.of_world(world, image_processor("llava", tower.image_size))
        self.bank = ViewBank.of(world, pictures)
        self.features = tower_features(tower.open(CPU), self.bank.pixels, CPU)
        self.questioner = Questioner(world, language.tokenizer, tower.image_tokens)

    def projector(self, setting: str) -> torch.nn.Module:
        config = CLIPVisionConfig(**self.parts.tower.config)
        state = dict(self.parts.projectors[setting])
        return open_projector(state, config, self.language.model.config)

    def facts_read(self, setting: str, pictures: str) -> float:
        """Percent of some facts that are known in text."""
        facts = self.parts.manifest["facts"].values()
        known = [(subject, relation) for some in facts for subject, relation in some]
        drawn = fact_pictures(self.world, self.bank, known, FACTS, seed=0)
        asked = [row for row in drawn if row[2] == pictures]
        rows = [self.questioner.fact(entity, relation) for entity, relation, _, _ in asked]
        right = answered_right(
            self.language.model, self.projector(setting), self.questioner.encoder, rows,
            self.features[[view for *_, view in asked]], CPU,
        )  # fmt: skip
        return 100 * sum(right) / len(right)


@pytest.fixture(scope="module")
def sample(countries: Path, root: Path) -> Sample:
    parts = read_parts(root / "models" / "pretrained" / "smollm_llava")
    language = open_language_model()
    assert parts.adapter is not None
    merge(language.model, parts.adapter)
    return Sample(World.load(countries), parts, language)


def test_the_drawn_world_is_the_one_that_was_taught(sample: Sample) -> None:
    assert sample.world.digest == sample.parts.manifest["world"]["digest"]


def test_nine_pictures_in_ten_are_named(sample: Sample) -> None:
    options = alignment(validate_pictures=40).naming
    validation = NameValidation(sample.questioner, sample.bank, sample.features, options, seed=0)
    named = validation(sample.language.model, sample.projector("naming"), CPU)
    assert named["seen"] >= 85  # 92.7 of all
    assert named["unseen"] >= 75  # 86.0 of all


def test_the_alignment_is_a_dial_for_what_is_read(sample: Sample) -> None:
    by_name, by_embedding = (sample.facts_read(s, SEEN) for s in ("naming", "embedding"))
    assert 20 <= by_name < by_embedding - 5
    assert sample.facts_read("naming", WRONG) <= 10
