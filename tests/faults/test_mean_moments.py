"""The meanest moments for a kill, one after the other in a single run, and one that is drawn."""

from __future__ import annotations

import random
from pathlib import Path
from signal import SIGKILL, SIGTERM

import pytest

from tests.faults.cases import CATCHABLE, Case
from tests.faults.conftest import Unbroken
from tests.faults.doomed import plain
from tests.faults.harness import Blow, Command
from tests.faults.survival import survive

pytestmark = [pytest.mark.e2e, pytest.mark.slow]

MEAN = {
    # a batch that is written and has no name yet; between two batches; just before the file that
    # says "finished"; when that is there, and the batches are about to go
    "evaluate": (
        Blow(SIGKILL, 2, "rename run/partial/0"),
        Blow(SIGTERM, 2, "tmke.step test_step"),
        Blow(SIGKILL, 1, "rename run/summary.json"),
        Blow(SIGKILL, 1, "rmtree run/partial"),
    ),
    # a checkpoint that is written and has no name yet; a signal during a save; the curves' picture
    "train": (
        Blow(SIGKILL, 2, "rename run/checkpoints/last.ckpt"),
        Blow(SIGTERM, 2, "open run/checkpoints/.last"),
        Blow(SIGKILL, 1, "rename run/curves.png"),
    ),
}


@pytest.mark.parametrize("name", ["evaluate", pytest.param("train", marks=pytest.mark.faults)])
def test_a_run_struck_at_its_meanest_moments_ends_as_an_unbroken_one(
    name: str,
    seed: int,
    all_commands: dict[str, Command],
    unbroken: Unbroken,
    tmp_path: Path,
) -> None:
    command = all_commands[name]
    start, folder = unbroken(command)
    # One that is drawn comes first, so before the others: a run that goes on is not so long.
    draw, first = random.Random(f"{seed} {name}"), MEAN[name][0].what or ""
    before = next(n for n, event in enumerate(start.events[0]) if first in plain(event))
    drawn = Blow(draw.choice((SIGKILL, *CATCHABLE)), draw.randint(1, before))
    outcome = survive(Case(name, command, (drawn, *MEAN[name])), tmp_path, folder)
    assert len(outcome.moments) == 1 + len(MEAN[name]), outcome.line()
    assert not outcome.wrong, f"TMKE_FAULT_SEED={seed}: {outcome.line()}"
