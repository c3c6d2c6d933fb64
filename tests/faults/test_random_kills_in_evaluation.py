"""An evaluation that is killed at twenty random moments ends as one that was left alone."""

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
    "evaluate": 5,
    "evaluate, W&B": 4,
    "evaluate, one after the other": 3,
    "evaluate, SLURM": 2,
    "evaluate, torchrun": 2,
    "evaluate, srun": 2,
    "evaluate, ddp": 2,
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, n) for name, count in CASES.items() for n in range(count)]
)
def test_an_evaluation_ends_as_an_unbroken_one(
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
