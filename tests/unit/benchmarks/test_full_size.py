"""The measurement on full-size models, rehearsed at a width of 64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import full_size
from datamodules.world import World, generate_world


def test_every_line_can_be_measured_in_bfloat16_on_a_cpu(tmp_path: Path) -> None:
    world = World.load(generate_world(tmp_path / "world", size=8, seen_views=2))
    torch.manual_seed(0)
    model = full_size.build("blip2", torch.device("cpu"), torch.bfloat16, tiny=True)
    assert model.dtype == torch.bfloat16
    for name, work in full_size.work_of(model, world).items():
        seconds, peak = full_size.measured(torch.device("cpu"), work)
        assert seconds > 0, name
        assert peak > 0.05, name  # GB: Python and torch alone need more


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak stays here")
def test_a_peak_is_that_of_one_piece_of_work() -> None:
    """Otherwise a small piece after a large one would have the large one's."""
    device = torch.device("cpu")
    _, large = full_size.measured(device, lambda: torch.ones(100_000_000))
    _, small = full_size.measured(device, lambda: torch.ones(10))
    assert small < large - 0.3
