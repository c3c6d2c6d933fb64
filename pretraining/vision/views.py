"""Every view of every pictured entity of a world, one after the other, and their features."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import CLIPVisionModel

from configs.around import AugmentationOptions
from datamodules.world import World
from pretraining.pictures import PictureBank, augment, normalise

PICTURES_AT_ONCE = 64


class View(NamedTuple):
    """One picture.

    Attributes:
        entity: name of what it shows.
        kind: name of the view, such as "flat" or "map".
        unseen: kept for tests; no training shows it.
    """

    entity: str
    kind: str
    unseen: bool


@dataclass(frozen=True)
class ViewBank:
    """All views of a world.

    Attributes:
        views: seen ones and unseen ones of each entity.
        pixels: (P, 3, S, S) uint8, in the order of `views`.
    """

    views: tuple[View, ...]
    pixels: Tensor

    @classmethod
    def of(cls, world: World, pictures: PictureBank) -> ViewBank:
        """The views of a world, whose pictures have been read."""
        views, pixels = list[View](), list[Tensor]()
        for entity in world.pictured:
            kinds = {path: kind for kind, path in entity.images.items()}
            for paths, unseen in ((entity.seen, False), (entity.unseen, True)):
                views += [View(entity.name, kinds[path], unseen) for path in paths]
            pixels.append(pictures.seen[entity.name])
            pixels += [pictures.unseen[entity.name]] if entity.unseen else []
        return cls(tuple(views), torch.cat(pixels))

    def indices(self, *, unseen: bool, entities: Sequence[str] | None = None) -> list[int]:
        """Where the seen or the unseen views stand, of some entities or of all."""
        wanted = None if entities is None else set(entities)
        return [
            index
            for index, view in enumerate(self.views)
            if view.unseen == unseen and (wanted is None or view.entity in wanted)
        ]

    def by_entity(self, *, unseen: bool) -> dict[str, list[int]]:
        """Where the views of each entity stand; entities without such a view are left out."""
        places: dict[str, list[int]] = {}
        for index in self.indices(unseen=unseen):
            places.setdefault(self.views[index].entity, []).append(index)
        return places


@torch.no_grad()
def tower_features(tower: CLIPVisionModel, levels: Tensor, device: torch.device) -> Tensor:
    """What a tower makes of pictures, a vector for each patch.

    Args:
        tower: on `device`, in evaluation mode.
        levels: (P, 3, S, S) 8-bit levels, of any number type.
        device: where it is computed.

    Returns:
        (P, N, Dv) on the CPU; the class token is left out (LLaVA's "default" selection).
    """
    return torch.cat(
        [
            tower(pixel_values=normalise(some.to(device))).last_hidden_state[:, 1:].cpu()
            for some in levels.split(PICTURES_AT_ONCE)
        ]
    )


class FeaturePool:
    """Features of varied seen views, computed once, since the tower does not change any more.

    Args:
        tower: on `device`, in evaluation mode.
        bank: the pictures.
        augmentation: how they are varied.
        draws: rows of each picture; the first shows it as it is.
        seed: of the variation.
        device: where it is computed.

    Attributes:
        features: (seen views x draws, N, Dv) on the CPU.
    """

    def __init__(
        self,
        tower: CLIPVisionModel,
        bank: ViewBank,
        augmentation: AugmentationOptions,
        *,
        draws: int,
        seed: int,
        device: torch.device,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)
        places = bank.indices(unseen=False)
        plain = bank.pixels[places]
        rows = [tower_features(tower, plain, device)]
        rows += [
            torch.cat(
                [
                    tower_features(tower, augment(some, augmentation, generator), device)
                    for some in plain.split(PICTURES_AT_ONCE)
                ]
            )
            for _ in range(draws - 1)
        ]
        self.features = torch.cat(rows)
        self._rows: dict[str, list[int]] = {}
        for draw in range(draws):
            for row, place in enumerate(places):
                of_entity = self._rows.setdefault(bank.views[place].entity, [])
                of_entity.append(draw * len(places) + row)

    def draw(self, entities: Sequence[str], rng: random.Random) -> Tensor:
        """A random view of each entity, varied at random: (P, N, Dv)."""
        return self.features[[rng.choice(self._rows[entity]) for entity in entities]]
