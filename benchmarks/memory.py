"""Peak memory beyond the base model, of one side of a benchmark.

It is what torch's allocator has handed out for tensors at once: on a GPU by its own count, on a CPU
as its profiler sees it, so that it is the same on every machine. Editor, optimiser and gradients
are among it; pages of code, and what an allocator holds free, are not. A second run is measured:
the first one makes what stays, Adam's moments for one.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from typing import Literal

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.cases import CASES
from benchmarks.setting import Setting

Side = Literal["engine", "published"]


class Peak:
    """Bytes beyond what was there before, known once the block is left.

    Attributes:
        bytes: the most at once.
        left: at the end.
    """

    bytes: int = 0
    left: int = 0


def peak_beyond_model(setting: Setting, name: str, side: Side, batch_size: int) -> float:
    """GB that a side needs beside the model.

    Args:
        setting: the model and the records.
        name: of the benchmark.
        side: which of the two.
        batch_size: edits side by side in the engine.
    """
    device = setting.device
    work = getattr(CASES[name](replace(setting, batch_size=batch_size)), side)
    gc.collect()
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        work()
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return (torch.cuda.max_memory_allocated(device) - before) / 1e9
    with peak_bytes() as first:
        work()
        gc.collect()
    with peak_bytes() as second:
        work()
    return (first.left + second.bytes) / 1e9


@contextmanager
def peak_bytes() -> Iterator[Peak]:
    """Counts what torch's allocator hands out on a CPU and gets back, to kernels as well."""
    peak = Peak()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield peak
    events = profiler.profiler.kineto_results.events()
    memory = sorted(
        (event for event in events if event.name() == "[memory]"), key=lambda e: e.start_ns()
    )
    held = [0, *accumulate(event.nbytes() for event in memory)]
    peak.bytes, peak.left = max(held), held[-1]
