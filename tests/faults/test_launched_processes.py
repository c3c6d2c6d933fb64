"""Processes that Lightning launches: none stays behind, whichever of them is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.commands import ROOT, Warm, environment, run

pytestmark = [pytest.mark.faults, pytest.mark.ddp]
WORDS = ("experiment=demo", "editor=mend", "trainer=ddp_cpu")
GROUP = "tests/e2e/in_a_group.py"


def test_a_launched_process_that_is_killed_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTS", "asleep killed")
    printed = run(GROUP, *WORDS, status=2)
    assert printed.count("another process of this run ended (rank 1)") == 1
    assert "Traceback" not in printed


def test_a_launched_process_that_never_arrives_ends_the_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It fails before it has connected; its end is all that there is to see."""
    monkeypatch.setenv("ACTS", "barrier barrier")
    monkeypatch.setenv("BROKEN_RANK", "1")
    printed = run(GROUP, *WORDS, status=2)
    assert printed.count("another process of this run ended (rank 1)") == 1


def test_launched_processes_end_with_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTS", "asleep asleep")
    printed = tmp_path / "out"
    first = Warm([GROUP, *WORDS], [str(printed), os.devnull])
    wait_until(lambda: printed.exists() and printed.read_text().count("asleep") == 2)
    os.kill(first.pid, signal.SIGKILL)
    assert first.wait() == -signal.SIGKILL
    wait_until(lambda: not group_lives(first.pid))


def test_torchrun_trains_and_judges(small_world: Path, tmp_path: Path) -> None:
    """The real one, with a data worker beside each process."""
    common = (
        "experiment=demo", "data=folder", f"data.root={small_world}", "data.limit=8",
        "data.filter_known=none", "data.num_workers=1", "trainer=ddp_cpu", "logger=csv",
    )  # fmt: skip
    folders = [f"output_dir={tmp_path / name}" for name in ("train", "evaluate")]
    printed = torchrun("train.py", *common, "editor=mend", "trainer.max_steps=1", folders[0])
    assert printed.count("last.ckpt") == 1
    printed = torchrun("evaluate.py", *common, "editor=none", folders[1])
    assert printed.count("Written to") == 1
    assert (tmp_path / "evaluate" / "summary.json").is_file()


def torchrun(*command: str) -> str:
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2")
    done = subprocess.run(
        [*launcher, *command], cwd=ROOT, env=environment(), text=True, timeout=550, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def wait_until(ready: object) -> None:
    assert callable(ready)
    until = time.monotonic() + 120
    while not ready():
        assert time.monotonic() < until, "this does not come"
        time.sleep(0.1)


def group_lives(leader: int) -> bool:
    """Whether a process of a group is left."""
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    return True
