"""MEND in two data-parallel processes: one set of statistics, no unused parameter."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import multiprocessing

from tests.two_processes import TOKENS, run, tokens


@pytest.mark.ddp
@pytest.mark.slow
def test_two_processes_keep_one_editor(tmp_path: Path) -> None:
    multiprocessing.spawn(run, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    everything = torch.cat([tokens(rank, call) for call in range(len(TOKENS)) for rank in (0, 1)])
    statistics = first["statistics"]
    assert int(statistics["count"]) == len(everything)
    torch.testing.assert_close(statistics["mean"], everything.mean(0))
    deviations = (everything - everything.mean(0)).square().sum(0)
    torch.testing.assert_close(statistics["squares"], deviations)
    for part in ("statistics", "editor"):
        for name, value in first[part].items():
            assert torch.equal(second[part][name], value), name
