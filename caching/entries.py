"""One entry of the cache as bytes: a checksum, then named tensors in safetensors' form."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import xxhash
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

Tensors = Mapping[str, Tensor]
KEY_BYTES = 16


def digest(*parts: bytes | str | memoryview) -> bytes:
    """A hash of some parts and of where each of them ends: `KEY_BYTES` bytes."""
    hashed = xxhash.xxh3_128()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        hashed.update(len(content).to_bytes(8, "little"))
        hashed.update(content)
    return hashed.digest()


def tensor_digest(tensor: Tensor) -> bytes:
    """A hash of a tensor's type, shape and values, wherever it is."""
    values = tensor.detach().cpu().contiguous()
    content = values.flatten().view(torch.uint8).numpy().data if values.numel() else b""
    return digest(f"{values.dtype}{tuple(values.shape)}", content)


def as_bytes(key: bytes, tensors: Tensors) -> bytes:
    """An entry's bytes, of tensors wherever they are."""
    return sealed(
        key, save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
    )


def sealed(key: bytes, content: bytes) -> bytes:
    """Content behind its checksum; it is of the key too, so that no entry passes for another."""
    return digest(key, content) + content


def is_whole(key: bytes, stored: bytes | memoryview) -> bool:
    """Whether an entry is the one that was written under its key."""
    view = memoryview(stored)
    return bytes(view[:KEY_BYTES]) == digest(key, view[KEY_BYTES:])


def as_tensors(key: bytes, stored: bytes | memoryview) -> dict[str, Tensor] | None:
    """The tensors of an entry, on the CPU; None where they are not those that were written."""
    if not is_whole(key, stored):
        return None
    try:
        return load(bytes(memoryview(stored)[KEY_BYTES:]))
    except SafetensorError:
        return None


def relative_error(stored: Tensors, computed: Tensors) -> float:
    """How far two values of one key are apart: the largest |a - b| / |b| of their real tensors.

    Whole numbers are not compared, which may be ranks of what is nearly equal. It is infinite where
    names or shapes differ.
    """
    shapes = [{name: value.shape for name, value in one.items()} for one in (stored, computed)]
    if shapes[0] != shapes[1]:
        return math.inf
    worst = 0.0
    for name, value in computed.items():
        if not value.is_floating_point() or not value.numel():
            continue
        new, old = (one.detach().cpu().double() for one in (value, stored[name]))
        apart = float((new - old).norm() / new.norm().clamp(min=torch.finfo(value.dtype).tiny))
        worst = max(worst, math.inf if math.isnan(apart) else apart)
    return worst
