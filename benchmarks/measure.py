"""Fair times: engine and reference take turns in one process; the best turn of each counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch

Work = Callable[[], object]


def in_turns(works: list[Work], turns: int, device: torch.device) -> list[float]:
    """Each work once unmeasured, then all of them in turn.

    Args:
        works: pieces of work that may be repeated.
        turns: how often each is measured.
        device: where they work.

    Returns:
        Seconds of the fastest turn of each.
    """
    for work in works:
        work()
    seconds = [math.inf] * len(works)
    for _ in range(turns):
        for number, work in enumerate(works):
            seconds[number] = min(seconds[number], _one_turn(work, device))
    return seconds


def _one_turn(work: Work, device: torch.device) -> float:
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a product as an MLP has them, the best of ten."""
    shape = (1024, 1024, 2816) if device.type == "cpu" else (4096, 4096, 11008)
    n, d_in, d_out = shape
    x = torch.randn(n, d_in, device=device, dtype=dtype)
    weight = torch.randn(d_out, d_in, device=device, dtype=dtype)
    (best,) = in_turns([lambda: x @ weight.mT], 10, device)
    return 2 * n * d_in * d_out / best
