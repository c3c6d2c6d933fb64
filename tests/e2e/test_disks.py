"""Disks that are full, read-only or elsewhere: what is done is not lost, and a message says so."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from errors import DataError
from tests.disks import disk_in_memory, files_up_to
from tests.e2e.commands import run
from tests.e2e.test_end_of_run import check_sent, content, evaluated, unbroken, words

pytestmark = pytest.mark.e2e
__all__ = ["evaluated", "unbroken"]  # fixtures
GOES_ON = r"output_dir=.* cannot be written \(.*\)\. Make room there; the same command with "
GOES_ON += r"resume=true goes on with the edits that are on disk"


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A file system that cannot be written."""
    with disk_in_memory(tmp_path / "read_only") as mount:
        yield mount("ro")


def test_a_disk_that_fills_at_every_stage_costs_nothing_that_is_done(
    evaluated: Callable[..., Path],
    unbroken: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The kernel refuses the first batch; later the second one, the tables and the summary fail."""
    caplog.set_level(logging.INFO, logger="results.partial")
    with files_up_to(3000), pytest.raises(DataError, match=GOES_ON):
        evaluated("resume=true")
    real, counted = Path.replace, [0]

    def stage(number: int, *names: str) -> Callable[..., Any]:
        def replace(source: Path, target: Path) -> Path:
            is_there = any(name in Path(target).name for name in names)
            counted[0] += is_there
            if is_there and counted[0] == number:
                raise OSError(28, "No space left on device")
            return real(source, target)

        counted[0] = 0
        return replace

    for number, name in ((2, ".parquet"), (1, "edits.parquet"), (1, "summary.json")):
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", stage(number, name))
            with pytest.raises(DataError, match=GOES_ON):
                evaluated("resume=true")
    folder = evaluated("resume=true")
    assert content(folder) == content(unbroken)
    log = (folder / "log.txt").read_text()
    assert "resume: 2 edits are there already" in log
    assert "resume: 4 edits are there already" in log


def test_a_read_only_place_is_refused_with_status_2(world: Path, read_only: Path) -> None:
    printed = run("evaluate.py", *words(world, read_only / "run"), status=2)
    assert f"output_dir={read_only}/run cannot be written (Read-only file system)" in printed
    assert "Traceback" not in printed


def test_the_machine_s_temporary_folder_is_not_needed(
    world: Path, tmp_path: Path, read_only: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(read_only))
    printed = run("evaluate.py", *words(world, tmp_path / "run"))
    assert "W&B is off" not in printed
    check_sent(tmp_path / "run")
