"""A world's pictures as small uint8 tensors, and how training varies them.

Every picture passes through the saved image processor once; training then works on tensors. What
the processor would give, `(x / 255 - mean) / std`, is exactly what `normalise` gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import CLIPImageProcessorPil

from datamodules.world import World
from lightning_modules.pretraining.settings import PretrainSettings

MEAN, STD = 0.5, 0.25


def image_processor(size: int) -> CLIPImageProcessorPil:
    """Squash to a square, scale to [0, 1], normalise; nothing is cropped away."""
    return CLIPImageProcessorPil(
        do_resize=True,
        size={"height": size, "width": size},
        do_center_crop=False,
        do_rescale=True,
        do_normalize=True,
        image_mean=[MEAN] * 3,
        image_std=[STD] * 3,
        do_convert_rgb=True,
    )


def normalise(pixels: Tensor) -> Tensor:
    """8-bit levels to what the model sees: (P, 3, S, S), any number type -> float32."""
    return (pixels.float() / 255 - MEAN) / STD


@dataclass(frozen=True)
class PictureBank:
    """Every picture of a world.

    Attributes:
        seen, unseen: by entity, (views, 3, S, S) uint8.
    """

    seen: dict[str, Tensor]
    unseen: dict[str, Tensor]

    @classmethod
    def of_world(cls, world: World, processor: CLIPImageProcessorPil) -> PictureBank:
        """Read and shrink all pictures; entities without any are left out."""
        entities = world.pictured
        return cls(
            seen={e.name: _read(e.seen, processor) for e in entities},
            unseen={e.name: _read(e.unseen, processor) for e in entities if e.unseen},
        )

    def draw(self, entities: Sequence[str], generator: torch.Generator, *, unseen: bool) -> Tensor:
        """One random view of each entity: (P, 3, S, S) uint8."""
        bank = self.unseen if unseen else self.seen
        views = [bank[name] for name in entities]
        chosen = [int(torch.randint(len(v), (), generator=generator)) for v in views]
        return torch.stack([v[index] for v, index in zip(views, chosen, strict=True)])


def augment(pixels: Tensor, settings: PretrainSettings, generator: torch.Generator) -> Tensor:
    """Shifted, warped, re-lit and noisy pictures: (P, 3, S, S) uint8 -> float 8-bit levels."""
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    moved = _move(pixels.float(), settings, uniform(-1, 1, 6))
    contrast = uniform(1 - settings.contrast, 1 + settings.contrast, 1, 1, 1)
    offset = uniform(-settings.offset, settings.offset, 3, 1, 1)
    noise = torch.randn(moved.shape, generator=generator) * uniform(0, settings.noise, 1, 1, 1)
    return ((moved - 128) * contrast + 128 + offset + noise).clamp(0, 255)


def _move(pixels: Tensor, settings: PretrainSettings, draw: Tensor) -> Tensor:
    """A shift of whole pixels, and with `warp` a small affine map; edges are repeated."""
    size = pixels.shape[-1]
    shift = (draw[:, :2] * (settings.shift + 0.5)).round().clamp(-settings.shift, settings.shift)
    theta = torch.eye(2).expand(len(pixels), 2, 2) + settings.warp * draw[:, 2:].view(-1, 2, 2)
    theta = torch.cat([theta, 2 * shift[..., None] / size], dim=-1)  # (P, 2, 3)
    grid = F.affine_grid(theta, list(pixels.shape), align_corners=False)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def _read(paths: Sequence[Path], processor: CLIPImageProcessorPil) -> Tensor:
    """(views, 3, S, S) uint8, resized by the processor."""
    pictures = []
    for path in paths:
        with Image.open(path) as picture:
            pictures.append(picture.convert("RGB"))
    shrunk = processor(pictures, do_rescale=False, do_normalize=False)["pixel_values"]
    return torch.from_numpy(np.stack([np.asarray(x) for x in shrunk]).astype(np.uint8))
