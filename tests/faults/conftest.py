"""The seed of all random kills, and the table of what came of them."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock

from datamodules.world import generate_world
from tests.faults.cases import commands, draw_case
from tests.faults.harness import Command, Start
from tests.faults.survival import survive, unbroken_run

# Test processes that are started from this one find it too, and draw the same.
SEED = int(os.environ.setdefault("TMKE_FAULT_SEED", str(secrets.randbelow(10**6))))
_LINE = "case"


@pytest.fixture(scope="session")
def seed() -> int:
    """Of all draws; drawn itself where TMKE_FAULT_SEED is not set."""
    return SEED


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world that loads in no time."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    with FileLock(base / "small-world.lock"):
        return generate_world(
            base / "small-world", seed=0, size=16, cities=10, seen_views=4, unseen_views=2
        )


@pytest.fixture(scope="session")
def all_commands(small_world: Path, root: Path) -> dict[str, Command]:
    return commands(small_world, root)


Unbroken = Callable[[Command], tuple[Start, Path]]


@pytest.fixture(scope="session")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Unbroken:
    """A start that nothing befalls and its folder, made once for commands that do the same."""
    made: dict[tuple[object, ...], tuple[Start, Path]] = {}

    def make(command: Command) -> tuple[Start, Path]:
        # Who starts the processes is the same to what they do.
        key = (command.script, command.options)
        if key not in made:
            folder = tmp_path_factory.mktemp("unbroken")
            made[key] = unbroken_run(command, folder), folder / "run"
        return made[key]

    return make


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Prints a line for each case, whichever process played it."""
    reports = [one for kind in ("passed", "failed") for one in terminalreporter.getreports(kind)]
    lines = [value for one in reports for key, value in one.user_properties if key == _LINE]
    if lines:
        terminalreporter.section(f"{len(lines)} cases, TMKE_FAULT_SEED={SEED}")
        for line in sorted(lines):
            terminalreporter.write_line(line)


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Adds a line to the table."""
    return lambda line: record_property(_LINE, line)


@pytest.fixture
def check_case(
    seed: int,
    all_commands: dict[str, Command],
    unbroken: Unbroken,
    tell: Callable[[str], None],
    tmp_path: Path,
) -> Callable[[str, int], None]:
    """Kills a command, by name, at moments drawn for a number, and holds its end to the promise."""

    def check(name: str, number: int) -> None:
        command = all_commands[name]
        start, folder = unbroken(command)
        outcome = survive(draw_case(seed, name, number, command, start), tmp_path, folder)
        tell(outcome.line())
        assert outcome.starts
        assert not outcome.wrong, f"TMKE_FAULT_SEED={seed}: {outcome.line()}"

    return check
