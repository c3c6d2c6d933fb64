"""Real disks: full, closed, or another one for the temporary folder; a folder with a live run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.disks import disk_in_memory
from tests.e2e.commands import ROOT, environment
from tests.faults.conftest import Unbroken
from tests.faults.harness import Blow, Command, start
from tests.faults.sameness import contents, evaluation_differences, training_differences, unfinished

pytestmark = [pytest.mark.faults, pytest.mark.e2e, pytest.mark.slow]
DIFFERENCES = {"evaluate": evaluation_differences, "train": training_differences}
# Too small: for the files of a result; for a second checkpoint of 8 MB beside the first one.
FULL = {"evaluate": "40k", "train": "12m"}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk in memory, or mounts it again with other options."""
    with disk_in_memory(tmp_path / "disk") as mount:
        yield mount


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_a_run_on_a_full_disk_goes_on_once_there_is_room(
    name: str,
    all_commands: dict[str, Command],
    unbroken: Unbroken,
    disk: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    command = all_commands[name]
    run = disk(f"size={FULL[name]}") / "run"
    full = start(command, run, tmp_path / "notes")
    assert full.status == 2, full.printed
    assert "Traceback" not in full.printed
    assert "No space left on device" in full.printed
    assert "resume=true" in full.printed
    assert not unfinished(run)
    disk("remount,size=100m")
    assert start(command, run, tmp_path / "notes").status == 0
    (run / "notes.txt").write_bytes((unbroken(command)[1] / "notes.txt").read_bytes())
    assert not DIFFERENCES[name](run, unbroken(command)[1])


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_a_disk_that_may_not_be_written_is_refused_before_anything_is_loaded(
    name: str, all_commands: dict[str, Command], disk: Callable[[str], Path], tmp_path: Path
) -> None:
    run = disk("size=10m") / "run"
    disk("remount,ro")
    refused = start(all_commands[name], run, tmp_path / "notes")
    assert refused.status == 2, refused.printed
    assert refused.printed.count("error:") == 1
    assert str(run) in refused.printed
    assert "Read-only file system" in refused.printed
    assert not any(event.startswith("tmke.step") for event in refused.events[0])


@pytest.mark.parametrize("options", ["size=10m", "size=10m,ro"])
def test_the_temporary_folder_may_be_on_another_disk_or_closed(
    options: str,
    all_commands: dict[str, Command],
    unbroken: Unbroken,
    disk: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    command, folder = all_commands["train"], disk(options)
    done = start(command, tmp_path / "run", tmp_path / "notes", variables={"TMPDIR": str(folder)})
    assert done.status == 0, done.printed
    wrong = training_differences(tmp_path / "run", unbroken(command)[1])
    assert wrong == ["notes.txt is missing"]
    assert not list(folder.iterdir())


@pytest.mark.parametrize("name", ["evaluate", "train"])
def test_a_folder_in_which_a_run_is_alive_is_refused_and_left_alone(
    name: str, all_commands: dict[str, Command], unbroken: Unbroken, tmp_path: Path
) -> None:
    command, run = all_commands[name], tmp_path / "run"
    step = {"evaluate": "tmke.step test_step", "train": "tmke.step training_step"}[name]
    with ThreadPoolExecutor(1) as pool:
        notes = tmp_path / "notes"
        first = pool.submit(start, command, run, notes, Blow(SIGSTOP, 3, step))
        while not (notes / "moment").exists():
            assert not first.done(), first.result().printed
        before = contents(run)
        words = [*command.options, f"output_dir={run}", "resume=true"]
        second = subprocess.run(
            [sys.executable, f"{command.script}.py", *words], cwd=ROOT, env=environment(),
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        changed = contents(run) != before
        os.kill(int((notes / "pids" / "0").read_text()), SIGCONT)
    assert second.returncode == 2, second.stderr
    assert "Traceback" not in second.stderr
    assert str(run) in second.stderr
    assert not changed
    assert first.result().status == 0, first.result().printed
    assert DIFFERENCES[name](run, unbroken(command)[1]) == ["notes.txt is missing"]
