"""The memory that a run says it took is its own."""

from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import pytest
import torch

from results import provenance
from results.provenance import peak_memory_bytes, reset_peak_memory

CPU = torch.device("cpu")
LARGE = 256 * 2**20


@pytest.fixture(autouse=True)
def _first_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "_begun", [])


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak stays here")
def test_an_earlier_run_of_the_process_does_not_count() -> None:
    reset_peak_memory(CPU)
    with mmap.mmap(-1, LARGE) as ballast:  # given back when it is closed, and not some time later
        for page in range(0, LARGE, mmap.PAGESIZE):
            ballast[page] = 1
        first = peak_memory_bytes(CPU)
    reset_peak_memory(CPU)
    second = peak_memory_bytes(CPU)
    assert first is not None
    assert second is not None
    assert 0 < second < first - LARGE // 2


@pytest.mark.parametrize(("system", "unit"), [("darwin", 1), ("linux", 1024)])
def test_where_the_peak_stays_the_first_run_alone_knows_it(
    system: str, unit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(_: int) -> Any:
        return type("Usage", (), {"ru_maxrss": 7})

    monkeypatch.setattr(provenance, "_forget_peak", lambda: False)
    monkeypatch.setattr("sys.platform", system)
    monkeypatch.setattr("resource.getrusage", used)
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) == 7 * unit
    reset_peak_memory(CPU)
    assert peak_memory_bytes(CPU) is None


def test_a_device_that_does_not_count_says_so() -> None:
    reset_peak_memory(torch.device("mps"))
    assert peak_memory_bytes(torch.device("mps")) is None


def test_a_gpu_counts_from_the_run_s_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = {"peak": 9}
    monkeypatch.setattr("torch.cuda.reset_peak_memory_stats", lambda _: counts.update(peak=0))
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda _: counts["peak"])
    reset_peak_memory(torch.device("cuda"))
    assert peak_memory_bytes(torch.device("cuda")) == 0
