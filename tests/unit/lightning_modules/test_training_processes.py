"""Two data-parallel processes train the editor that one process trains with the batches of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from lightning_modules.checkpoints import BEST, LAST
from tests.two_processes import CASES, FULL_DISK, TOKENS, fitted, judged, run, steps, tokens

pytestmark = [pytest.mark.ddp, pytest.mark.slow, pytest.mark.usefixtures("float64")]
Found = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What each process has at the end."""
    folder = tmp_path_factory.mktemp("two")
    # Forks of one process that has imported the libraries; this one has run autograd's threads.
    multiprocessing.set_forkserver_preload(["tests.two_processes"])
    multiprocessing.start_processes(run, args=(str(folder),), nprocs=2, start_method="forkserver")
    first, second = (torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    full_disk = folder / FULL_DISK
    for name in (BEST, LAST):
        first[name] = torch.load(full_disk / name, weights_only=True)
    return first, second


def test_statistics_are_those_of_all_tokens(processes: Found) -> None:
    everything = torch.cat([tokens(rank, call) for call in range(len(TOKENS)) for rank in (0, 1)])
    deviations = (everything - everything.mean(0)).square().sum(0)
    for found in processes:
        statistics = found["statistics"]
        assert int(statistics["count"]) == len(everything)
        torch.testing.assert_close(statistics["mean"], everything.mean(0))
        torch.testing.assert_close(statistics["squares"], deviations)


@pytest.mark.parametrize("case", CASES)
def test_two_processes_train_what_one_trains(case: str, processes: Found, tmp_path: Path) -> None:
    expected = fitted(case, steps(case, None), judged(None), tmp_path)
    untrained = fitted(case, steps(case, None)[:1], judged(None), tmp_path)["editor"]
    first, second = (found[case] for found in processes)
    assert first["editor"].keys() == expected["editor"].keys()
    for name, value in expected["editor"].items():
        assert torch.equal(second["editor"][name], first["editor"][name]), name
        torch.testing.assert_close(first["editor"][name], value, rtol=1e-7, atol=1e-9, msg=name)
    moved = [name for name, value in expected["editor"].items()
             if not torch.equal(value, untrained[name])]  # fmt: skip
    assert moved
    assert first["logged"].keys() == expected["logged"].keys()
    for name, value in expected["logged"].items():
        torch.testing.assert_close(second["logged"][name], first["logged"][name], msg=name)
        torch.testing.assert_close(first["logged"][name], value, rtol=1e-6, atol=1e-9, msg=name)


def test_what_the_first_process_cannot_write_all_know_of(processes: Found) -> None:
    """All save again at the end, where the first has room; the best is the best that is written."""
    first, _ = processes
    assert first[LAST]["global_step"] == 3
    assert first[BEST]["global_step"] == 3  # that of step 2, which was better, is lost
