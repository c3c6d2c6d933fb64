"""A short hash of a base model's weights."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from models.offloaded import named_tensors

_SAMPLED = 4096  # values of each tensor that enter a fingerprint
_CODES = (torch.uint8, torch.int8)  # of quantised layers


def fingerprint(model: nn.Module) -> str:
    """A short hash of the weights, to tell whether a checkpoint belongs to this base model.

    It reads the name, shape and up to 4096 evenly spaced values of every tensor, rounded to
    bfloat16, so that it is quick on a 7B model, and the same in whatever type a model that is
    stored in half precision is loaded. Of quantised layers it reads the scales and not the codes:
    how a weight between two codes is rounded depends on type and device.
    """
    digest = hashlib.sha256()
    for name, tensor in named_tensors(model):
        if tensor.dtype in _CODES:
            digest.update(name.encode())
            continue
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, len(flat) // _SAMPLED)][:_SAMPLED]
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(sample.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]
