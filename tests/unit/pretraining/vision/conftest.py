"""A world of twelve pictured entities, and what was taught about it."""

from __future__ import annotations

import pytest

from datamodules.world import World, generate_world
from models.language_model import LanguageModel
from pretraining.pictures import PictureBank, image_processor
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank
from tests.vision_cases import TOWER, random_language, taught


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """Twelve pictured entities of three types."""
    root = tmp_path_factory.mktemp("vision") / "world"
    return World.load(generate_world(root, size=4, cities=3, seen_views=3, unseen_views=2))


@pytest.fixture(scope="session")
def language(world: World) -> LanguageModel:
    return random_language(world)


@pytest.fixture(scope="session")
def pictures(world: World) -> PictureBank:
    return PictureBank.of_world(world, image_processor("llava", TOWER.image_size))


@pytest.fixture(scope="session")
def tower(world: World, pictures: PictureBank) -> TowerResult:
    return taught(world, pictures)


@pytest.fixture(scope="session")
def bank(world: World, pictures: PictureBank) -> ViewBank:
    return ViewBank.of(world, pictures)
