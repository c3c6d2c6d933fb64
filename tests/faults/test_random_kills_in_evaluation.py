"""An evaluation that is killed at twenty random moments ends as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
    name: str, number: int, check_case: Callable[[str, int], None]
) -> None:
    check_case(name, number)
