"""Views of a world, and the tower that tells its entities apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.world import World
from pretraining.pictures import PictureBank
from pretraining.vision.tower import TowerResult
from pretraining.vision.views import ViewBank
from tests.vision_cases import taught


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
    views = ViewBank.of(world, pictures).views
    for sort, unseen in (("seen", False), ("unseen", True)):
        of_kinds = {view.kind for view in views if view.unseen == unseen}
        mean = sum(tower.accuracies[f"view {kind}"] for kind in of_kinds) / len(of_kinds)
        assert tower.accuracies[sort] == pytest.approx(mean, abs=0.01)
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
