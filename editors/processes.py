"""Tensors of all data-parallel processes, which have to call each of these functions at once.

No gradient passes. Without other processes the answer is what was given.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed


def per_process(values: Tensor) -> Tensor:
    """A tensor's mean over all processes.

    What a sum over all of them is divided by is such a mean, since their gradients are averaged.
    """
    if not _has_others():
        return values
    total = values.clone()
    distributed.all_reduce(total)
    return total / distributed.get_world_size()


def of_all_processes(value: Tensor) -> list[Tensor]:
    """A tensor of every process, in rank order; all of them have one shape."""
    if not _has_others():
        return [value]
    values = [torch.empty_like(value) for _ in range(distributed.get_world_size())]
    distributed.all_gather(values, value)
    return values


def gathered(rows: Tensor) -> tuple[Tensor, slice]:
    """The rows of all processes one behind the other, and which of them are this one's.

    Args:
        rows: (T, d), T of any size.

    Returns:
        (sum of all T, d), and a slice of T rows.
    """
    rows = rows.detach()
    lengths = [int(n) for n in of_all_processes(torch.tensor(len(rows), device=rows.device))]
    if len(lengths) == 1:
        return rows, slice(0, len(rows))
    padded = rows.new_zeros(max(lengths), *rows.shape[1:])
    padded[: len(rows)] = rows
    parts = of_all_processes(padded)
    start = sum(lengths[: distributed.get_rank()])
    every = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
    return every, slice(start, start + len(rows))


def _has_others() -> bool:
    return distributed.is_available() and distributed.is_initialized()
