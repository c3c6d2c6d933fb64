"""Workers of a loader while signals are sent to everyone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pytest

from datamodules.order import EditLoader, EditOrder


def collate(edits: Any) -> list[int]:
    return [os.getpid(), *(number for number, _ in edits)]


@pytest.fixture
def batches() -> Iterator[Any]:
    edits: Any = [(number, number) for number in range(40)]
    loader: Any = EditLoader(edits, EditOrder(40, 2, seed=0), collate, num_workers=1)  # type: ignore[arg-type]
    return iter(loader)


@pytest.mark.parametrize("number", ["TERM", "INT", "USR1"])
def test_a_signal_to_everyone_ends_no_worker(number: str, batches: Any) -> None:
    worker, *_ = next(batches)
    subprocess.run(["kill", f"-{number}", str(worker)], check=True)  # not from its own process
    time.sleep(0.1)
    served = list(batches)
    assert len(served) == 19
    assert {batch[0] for batch in served} == {worker}


def test_its_own_process_ends_it(batches: Any) -> None:
    worker, *_ = next(batches)
    os.kill(worker, 15)
    with pytest.raises(RuntimeError, match="exited unexpectedly"):
        list(batches)
