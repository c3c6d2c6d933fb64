"""Peak memory beyond the base model, of one side of a benchmark.

On a CPU it is that of a process which does nothing else: how far its memory rises above what it has
once the model is loaded, editor, optimiser and kernels' buffers among it. On a GPU it is what its
allocator says, and no process of its own is needed.
"""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Literal

import psutil
import torch

from benchmarks.cases import CASES
from benchmarks.setting import Setting
from results.provenance import peak_memory_bytes, reset_peak_memory

Side = Literal["engine", "published"]
Opened = Callable[[], Setting]


def peak_beyond_model(
    opened: Opened, name: str, side: Side, batch_size: int, *, apart: bool
) -> float | None:
    """GB that a side needs beside the model; None where the system does not tell.

    Args:
        opened: gives the setting; it is pickled for another process.
        name: of the benchmark.
        side: which of the two.
        batch_size: edits side by side in the engine.
        apart: in a process of its own.
    """
    measure = partial(_measure, opened, name, side, batch_size, torch.get_num_threads())
    if not apart:
        return measure()
    # Spawned: a fork would begin with this process's memory, and freed pages of it.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as process:
        return process.submit(measure).result()


def _measure(opened: Opened, name: str, side: Side, batch_size: int, threads: int) -> float | None:
    torch.set_num_threads(threads)
    setting = replace(opened(), batch_size=batch_size)
    case = CASES[name](setting)
    gc.collect()
    _give_back()
    device = setting.device
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
    else:
        before = psutil.Process().memory_info().rss
    reset_peak_memory(device)
    getattr(case, side)()
    peak = peak_memory_bytes(device)
    return None if peak is None else (peak - before) / 1e9


def _give_back() -> None:
    """Pages that the allocator holds free go back, so that none of them hides a later rise."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
