"""Fair times: engine and reference take turns in one process; the best turn of each counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

Work = Callable[[], object]
LONG = 10.0  # seconds, in which what is done once does not show


def in_turns(
    works: Sequence[Work], turns: int, device: torch.device, *, rehearse: bool = True
) -> list[float]:
    """Each work once unmeasured, then all of them in turn.

    Args:
        works: pieces of work that may be repeated.
        turns: how often each is measured.
        device: where they work.
        rehearse: whether each is done once before; what is done once, such as choosing kernels, is
            measured where it is not. A rehearsal of more than `LONG` seconds is the first turn.

    Returns:
        Seconds of the fastest turn of each.
    """
    rehearsed = [one_turn(work, device) if rehearse else 0.0 for work in works]
    seconds = [taken if taken > LONG else math.inf for taken in rehearsed]
    for turn in range(turns):
        for number, work in enumerate(works):
            if turn == 0 and rehearsed[number] > LONG:
                continue
            seconds[number] = min(seconds[number], one_turn(work, device))
    return seconds


def one_turn(work: Work, device: torch.device) -> float:
    """Seconds of a piece of work."""
    wait(device)
    started = time.perf_counter()
    work()
    wait(device)
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
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


def copy_rate(device: torch.device, size: int) -> float:
    """Bytes read and written a second where so many bytes are worked on, the best of ten.

    A small state stays in the processor's cache, and is moved sooner than a large one.
    """
    source = torch.ones(max(1, size // 8), device=device)  # half of the bytes, of four each
    target = torch.empty_like(source)
    (best,) = in_turns([lambda: target.copy_(source)], 10, device)
    return 2 * source.nbytes / best
