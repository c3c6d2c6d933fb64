"""The most bytes of CPU memory that tensors take at once in a block, kernels' own too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import accumulate

from torch.profiler import ProfilerActivity, profile


class Peak:
    """The peak beyond what was there before, in bytes; known once the block is left."""

    bytes: int = 0


@contextmanager
def peak_bytes() -> Iterator[Peak]:
    """Counts what torch's allocator hands out and gets back."""
    peak = Peak()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        yield peak
    events = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    memory = sorted(
        (event for event in events if event.name() == "[memory]"), key=lambda e: e.start_ns()
    )
    peak.bytes = max(accumulate(event.nbytes() for event in memory), default=0)
