"""Logits in single precision, whatever type the head's weights have.

    logits = W h + b        W, h: as stored; products and sums: float32

A product of two numbers in bfloat16 or float16 fits into float32, so that only the sum is rounded.
Logits that are themselves rounded to bfloat16 keep 8 bits: near 10 they stand 1/16 apart, tokens
tie exactly, and which of them is the likeliest is left to their order.

The head's weights are brought to float32 block by block: no float32 copy of the whole head (half a
gigabyte for 32,000 tokens of width 4,096) is made, in the backward pass neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers.pytorch_utils import Conv1D

from metrics.precision import single, without_autocast
from models.deltas import linear_weight
from models.hooks import forward_hooks

# Of a head's weights in float32 at once: what a CPU's cache holds; elsewhere blocks cost launches.
CPU_BLOCK_BYTES, BLOCK_BYTES = 8 * 2**20, 64 * 2**20


def head_logits(head: nn.Module, hidden: Tensor) -> Tensor:
    """What a head says: (..., d) -> (..., V) in float32, or float64 from a head in float64.

    Gradients reach `hidden`, and weights that are in float32 already. A head in float32 is run as
    it is; one that is no plain linear map too, and what it says is only stored in float32.
    """
    with without_autocast(hidden.device):
        if not isinstance(head, nn.Linear | Conv1D) or _is_single(head):
            dtype = next(head.parameters()).dtype
            logits: Tensor = head.forward(hidden.to(dtype))  # past the hook of the function below
            return logits.to(single(logits.dtype))
        bias = head.bias
        logits = _InBlocks.apply(hidden, linear_weight(head))
        return logits if bias is None else logits + bias.to(logits.dtype)


def in_single_precision(head: nn.Module) -> AbstractContextManager[None]:
    """Inside the block a model's own forward pass computes its logits as `head_logits` does.

    What the model does to them afterwards is done in single precision too.
    """
    device = next(head.parameters()).device
    if _is_single(head) and not torch.is_autocast_enabled(device.type):
        return nullcontext()
    return forward_hooks([(head, lambda module, args, _output: head_logits(module, args[0]))])


@contextmanager
def at_tokens(head: nn.Module, row: Tensor, position: Tensor) -> Iterator[None]:
    """Inside the block a model's own forward pass computes its logits at some tokens alone: (N, V).

    Those of all tokens would take R * T * V numbers, 25 GB for 350 questions with a picture.
    """

    def pick(_module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][row, position], *args[1:])

    handle = head.register_forward_pre_hook(pick)
    try:
        yield
    finally:
        handle.remove()


class _InBlocks(torch.autograd.Function):
    """W h in single precision from weights in half, a block of the vocabulary at a time."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor) -> Tensor:
        """(..., d), (V, d) -> (..., V)."""
        ctx.save_for_backward(weight)
        ctx.dtype = hidden.dtype
        hidden = hidden.to(single(hidden.dtype))
        logits = hidden.new_empty(*hidden.shape[:-1], len(weight))
        for block in _blocks(weight):
            logits[..., block] = F.linear(hidden, weight[block].to(hidden.dtype))
        return logits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        """The gradient of `hidden`, in its own type; the weights are frozen."""
        (weight,) = ctx.saved_tensors
        with without_autocast(gradient.device):
            parts = (gradient[..., b] @ weight[b].to(gradient.dtype) for b in _blocks(weight))
            total = next(parts)
            for part in parts:
                total += part
        return total.to(ctx.dtype), None


def _blocks(weight: Tensor) -> Iterator[slice]:
    """Rows of (V, d) weights, as many at a time as are brought to float32 at once."""
    room = CPU_BLOCK_BYTES if weight.device.type == "cpu" else BLOCK_BYTES
    rows = max(1, room // (torch.float32.itemsize * weight.shape[1]))
    for start in range(0, len(weight), rows):
        yield slice(start, start + rows)


def _is_single(head: nn.Module) -> bool:
    dtype = head.get_parameter("weight").dtype
    return dtype.is_floating_point and dtype == single(dtype)
