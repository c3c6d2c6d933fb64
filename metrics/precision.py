"""In which number type and where what needs many digits is computed.

Sums and solves that need float64 are made on the CPU for Apple's GPUs (MPS), which have no such
numbers. What a model in half precision says is added up, compared and judged in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

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


def single(dtype: torch.dtype) -> torch.dtype:
    """float32 for numbers of half precision; what has more digits keeps them."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(device: torch.device) -> AbstractContextManager[None]:
    """Inside the block products keep the type of their numbers, under mixed precision too."""
    has_autocast = torch.amp.is_autocast_available(device.type)  # torch's meta device has none
    if not has_autocast or not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def autocast_of(device: torch.device) -> Callable[[], AbstractContextManager[None]]:
    """What brings mixed precision as it is now back later: products of a pass backward."""
    if not torch.amp.is_autocast_available(device.type):
        return nullcontext
    return partial(
        torch.autocast,
        device.type,
        dtype=torch.get_autocast_dtype(device.type),
        enabled=torch.is_autocast_enabled(device.type),
    )
