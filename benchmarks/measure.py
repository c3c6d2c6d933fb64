"""Fair times: engine and reference take turns in one process; the best turn of each counts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch

from results.provenance import peak_memory_bytes, reset_peak_memory

Work = Callable[[], object]


@dataclass(frozen=True)
class Measured:
    """What a piece of work costs.

    Attributes:
        seconds: of its fastest turn.
        extra_bytes: most memory in any turn, beyond what was held before it; nan where unknown.
    """

    seconds: float
    extra_bytes: float


def in_turns(works: list[Work], turns: int, device: torch.device) -> list[Measured]:
    """Each work once unmeasured, then all of them in turn.

    Args:
        works: pieces of work that may be repeated.
        turns: how often each is measured.
        device: where they work.
    """
    seconds = [math.inf] * len(works)
    extra = [math.nan] * len(works)
    for work in works:
        work()
    for _ in range(turns):
        for number, work in enumerate(works):
            took, more = _one_turn(work, device)
            seconds[number] = min(seconds[number], took)
            extra[number] = more if math.isnan(extra[number]) else max(extra[number], more)
    return [Measured(took, more) for took, more in zip(seconds, extra, strict=True)]


def _one_turn(work: Work, device: torch.device) -> tuple[float, float]:
    _wait(device)
    reset_peak_memory(device)
    before = peak_memory_bytes(device)
    started = time.perf_counter()
    work()
    _wait(device)
    took = time.perf_counter() - started
    peak = peak_memory_bytes(device)
    return took, math.nan if before is None or peak is None else float(peak - before)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matmul_rate(device: torch.device, dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a product as an MLP has them, the best of ten."""
    shape = (1024, 1024, 2816) if device.type == "cpu" else (4096, 4096, 11008)
    n, d_in, d_out = shape
    x = torch.randn(n, d_in, device=device, dtype=dtype)
    weight = torch.randn(d_out, d_in, device=device, dtype=dtype)
    best = in_turns([lambda: x @ weight.mT], 10, device)[0].seconds
    return 2 * n * d_in * d_out / best


@dataclass
class Parts:
    """Seconds by part of the work, for the picture of where the time goes.

    A part that runs inside another one counts for itself alone.
    """

    device: torch.device
    seconds: dict[str, float] = field(default_factory=dict)
    _open: list[tuple[str, float]] = field(default_factory=list)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Everything inside the block belongs to a part."""
        self._charge()
        self._open.append((name, time.perf_counter()))
        try:
            yield
        finally:
            self._charge()
            self._open.pop()
            self._restart()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, charged to a part."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return run

    def _charge(self) -> None:
        """Gives the innermost open part the time since it was charged last."""
        _wait(self.device)
        if self._open:
            name, since = self._open[-1]
            now = time.perf_counter()
            self.seconds[name] = self.seconds.get(name, 0.0) + now - since
            self._open[-1] = (name, now)

    def _restart(self) -> None:
        if self._open:
            self._open[-1] = (self._open[-1][0], time.perf_counter())
