"""A world's pictures as small uint8 tensors, and how training varies them.

Every picture passes through the saved image processor once; training then works on tensors. What
the processor would give, `(x / 255 - mean) / std`, is exactly what `normalise` gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample
from transformers.image_processing_utils import BaseImageProcessor
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from configs.around import AugmentationOptions
from configs.pretraining import PretrainOptions
from datamodules.picture_file import read_image
from datamodules.world import World

MEAN, STD = 0.5, 0.25
WARPED = 0.6  # of the pictures; the others keep their place, as tests show them
PLAIN_COLOURED = 0.5  # of the backgrounds; the others are black


def image_processor(family: str, size: int) -> BaseImageProcessor:
    """The family's own: squash to a square, scale to [0, 1], normalise; nothing is cropped away."""
    common: dict[str, Any] = {
        "do_resize": True,
        "size": {"height": size, "width": size},
        "do_rescale": True,
        "do_normalize": True,
        "image_mean": [MEAN] * 3,
        "image_std": [STD] * 3,
        "do_convert_rgb": True,
    }
    if family == "llava":
        return CLIPImageProcessorPil(**common, do_center_crop=False)
    return BlipImageProcessorPil(**common)


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
    def of_world(cls, world: World, processor: BaseImageProcessor) -> PictureBank:
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
        return torch.stack([v[int(torch.randint(len(v), (), generator=generator))] for v in views])


def augment(
    pixels: Tensor, options: PretrainOptions | AugmentationOptions, generator: torch.Generator
) -> Tensor:
    """Moved, re-lit and noisy pictures: (P, 3, S, S) uint8 -> float 8-bit levels."""
    count = len(pixels)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    grid = _shifted_grid(pixels, options.shift, uniform(-1, 1, 2))
    if options.warp:
        warped = _warped(grid, options.warp, uniform(0, 1, 2), uniform(-1, 1, 2), uniform(0, 1, 3))
        grid = torch.where(uniform(0, 1, 1, 1, 1) < WARPED, warped, grid)
    moved = grid_sample(pixels.float(), grid, padding_mode="border", align_corners=False)
    if options.warp:  # what comes from outside the picture is background
        colour = uniform(0, 255, 3, 1, 1) * (uniform(0, 1, 1, 1, 1) < PLAIN_COLOURED)
        outside = (grid.abs() > 1).any(-1)[:, None]  # (P, 1, S, S)
        moved = torch.where(outside, colour, moved)
    contrast = uniform(1 - options.contrast, 1 + options.contrast, 1, 1, 1)
    offset = uniform(-options.offset, options.offset, 3, 1, 1)
    noise = torch.randn(moved.shape, generator=generator) * uniform(0, options.noise, 1, 1, 1)
    return ((moved - 128) * contrast + 128 + offset + noise).clamp(0, 255)


def _shifted_grid(pixels: Tensor, shift: int, draw: Tensor) -> Tensor:
    """Where each pixel of the result is taken from, after a shift of whole pixels: (P, S, S, 2)."""
    pixel = 2 / pixels.shape[-1]  # grids span [-1, 1]
    whole = (draw * (shift + 0.5)).round().clamp(-shift, shift)
    theta = torch.eye(2).expand(len(pixels), 2, 2)
    theta = torch.cat([theta, pixel * whole[..., None]], dim=-1)  # (P, 2, 3)
    return affine_grid(theta, list(pixels.shape), align_corners=False)


def _warped(grid: Tensor, warp: float, shrink: Tensor, shear: Tensor, wave: Tensor) -> Tensor:
    """The grid shrunk along each axis, sheared, and waved like a flag.

    Args:
        grid: (P, S, S, 2) with (x, y) in [-1, 1].
        warp: strength.
        shrink: (P, 2) in [0, 1]; twice `warp` of the size is taken away at most.
        shear: (P, 2) in [-1, 1].
        wave: (P, 3) in [0, 1]: height, frequency, phase.
    """
    x, y = (grid / (1 - 2 * warp * shrink)[:, None, None]).unbind(-1)  # (P, S, S) each
    height, frequency, phase = (value[:, None, None] for value in wave.unbind(1))
    curve = torch.sin(2 * math.pi * (0.75 * frequency * grid[..., 0] + phase))
    along_y = warp / 2 * (shear[:, 1, None, None] * x + height * curve)
    return torch.stack([x + warp / 2 * shear[:, 0, None, None] * y, y + along_y], dim=-1)


def _read(paths: Sequence[Path], processor: BaseImageProcessor) -> Tensor:
    """(views, 3, S, S) uint8, resized by the processor."""
    pictures = [read_image(path) for path in paths]
    shrunk = processor(pictures, do_rescale=False, do_normalize=False)["pixel_values"]
    return torch.from_numpy(np.stack([np.asarray(x) for x in shrunk]).astype(np.uint8))
