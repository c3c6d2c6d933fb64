"""Tensors of all data-parallel processes, each of which has another number of rows."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from datamodules.order import rank_and_world


def gathered(rows: Tensor) -> tuple[Tensor, slice]:
    """The rows of all processes one behind the other, and which of them are this one's.

    Every process has to call it at once. No gradient passes.

    Args:
        rows: (T, d), T of any size.
    """
    rows = rows.detach()
    rank, world = rank_and_world()
    if world == 1:
        return rows, slice(0, len(rows))
    count = torch.tensor([len(rows)], device=rows.device)
    counts = [torch.empty_like(count) for _ in range(world)]
    distributed.all_gather(counts, count)
    lengths = [int(number) for number in counts]
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in lengths]
    distributed.all_gather(parts, padded)
    start = sum(lengths[:rank])
    every = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
    return every, slice(start, start + len(rows))
