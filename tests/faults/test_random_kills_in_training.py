"""A training that is killed at twenty random moments ends as one that was left alone."""

from __future__ import annotations

from collections.abc import Callable

import pytest

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
    name: str, number: int, check_case: Callable[[str, int], None]
) -> None:
    check_case(name, number)
