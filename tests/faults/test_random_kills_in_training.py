"""A training that is killed at twenty random moments ends as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.cases import draw_case
from tests.faults.conftest import Unbroken
from tests.faults.harness import Command
from tests.faults.survival import survive

pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.slow]

CASES = {
    "train": 8,
    "train, W&B": 3,
    "train, SLURM": 3,
    "train, torchrun": 2,
    "train, srun": 2,
    "train, ddp": 2,
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, count in CASES.items() for n in range(count)]
)
def test_a_training_ends_as_an_unbroken_one(
    name: str,
    number: int,
    seed: int,
    all_commands: dict[str, Command],
    unbroken: Unbroken,
    tell: Callable[[str], None],
    tmp_path: Path,
) -> None:
    command = all_commands[name]
    start, folder = unbroken(command)
    outcome = survive(draw_case(seed, name, number, command, start), tmp_path, folder)
    tell(outcome.line())
    assert outcome.starts
    assert not outcome.wrong, f"TMKE_FAULT_SEED={seed}: {outcome.line()}"
