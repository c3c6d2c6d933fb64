"""Where sums and solves that need float64 are made: Apple's GPUs (MPS) have no such numbers."""

from __future__ import annotations

import torch
from torch import Tensor

WITHOUT_FLOAT64 = frozenset(("mps",))


def widest_dtype(device: torch.device) -> torch.dtype:
    """The number type with the most digits that a device has."""
    return torch.float32 if device.type in WITHOUT_FLOAT64 else torch.float64


def device_with_float64(device: torch.device) -> torch.device:
    """The device itself, or the CPU in place of one that has no float64."""
    return torch.device("cpu") if device.type in WITHOUT_FLOAT64 else device


def in_float64(values: Tensor) -> Tensor:
    """Values in float64, on the CPU where their own device has none."""
    return values.to(device_with_float64(values.device)).double()
