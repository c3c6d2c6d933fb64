"""All of a test in float64, so that what is the same agrees to rounding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaRMSNorm


@contextmanager
def in_float64() -> Iterator[None]:
    """Inside Llama's norms too, which transformers has in float32 whatever the model is in."""
    torch.set_default_dtype(torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LlamaRMSNorm, "forward", _norm)
        yield
    torch.set_default_dtype(torch.float32)


def _norm(self: LlamaRMSNorm, hidden: Tensor) -> Tensor:
    mean = hidden.square().mean(-1, keepdim=True)
    return self.weight * hidden * torch.rsqrt(mean + self.variance_epsilon)
