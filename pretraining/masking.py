"""The training-only subject mask: it decides where facts live.

Left alone, a small model reads the subject's name from the last token of the prompt, and an editor
that writes at the subject's last token (ROME) finds nothing there. In masked rows the positions
after the subject see none of its tokens in the lowest layers, and only its last token above: what
is to be said about the subject has to be gathered at that token first. The model is used unmasked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BLOCKED = -1e9


def subject_masks(spans: Tensor, rows: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Additive attention masks, causal in every row.

    Args:
        spans: (B, 2) first and last token of each subject.
        rows: (B,) bool, rows in which the subject is hidden.
        length: T.

    Returns:
        Masks of the low and of the high layers, (B, 1, T, T) each.
    """
    causal = torch.full((length, length), BLOCKED).triu(1)
    position = torch.arange(length)
    first, last = spans[:, :1, None], spans[:, 1:, None]  # (B, 1, 1)
    after = position[None, :, None] > last  # (B, T, 1) who looks
    in_span = (position >= first) & (position <= last)  # (B, 1, T) what is looked at
    hidden = rows[:, None, None] & after
    low = causal.expand(len(spans), -1, -1).masked_fill(hidden & in_span, BLOCKED)
    high = causal.expand(len(spans), -1, -1).masked_fill(
        hidden & in_span & (position < last), BLOCKED
    )
    return low[:, None], high[:, None]


@contextmanager
def masked_layers(layers: nn.ModuleList, low: Tensor, high: Tensor, n_low: int) -> Iterator[None]:
    """Inside the block the first `n_low` layers attend through `low`, the others through `high`."""

    def hook_of(mask: Tensor) -> Any:
        def hook(
            _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> tuple[tuple[Any, ...], dict[str, Any]]:
            return args, {**kwargs, "attention_mask": mask}

        return hook

    handles = [
        layer.register_forward_pre_hook(hook_of(low if i < n_low else high), with_kwargs=True)
        for i, layer in enumerate(layers)
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
