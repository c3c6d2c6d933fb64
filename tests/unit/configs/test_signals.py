"""What a signal does to a process of ours, and how a job gets back into SLURM's queue."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra._internal.hydra import Hydra

from configs.launch import run_command
from configs.signals import Signals, requeue
from errors import STOPPING, Stopped
from tests.e2e.commands import ROOT


@pytest.fixture
def signals() -> Iterator[Signals]:
    """Installed for one test; SIGINT is one that is not ignored, also in a background job."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    found = Signals()
    found.install()
    yield found
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", STOPPING)
def test_a_signal_is_raised_at_once(signals: Signals, number: int) -> None:
    with pytest.raises(Stopped) as caught:
        send(number)
    assert (caught.value.number, caught.value.status) == (number, 128 + number)
    assert not isinstance(caught.value, Exception)
    assert str(caught.value) == f"stopped by {signal.Signals(number).name}"


def test_a_deferred_signal_is_noted_and_the_second_one_raised(
    signals: Signals, capfd: pytest.CaptureFixture[str]
) -> None:
    signals.deferred = True
    send(signal.SIGTERM)
    assert signals.received == signal.SIGTERM
    assert "a second signal stops it at once" in capfd.readouterr().err
    with pytest.raises(Stopped, match="SIGTERM"):
        send(signal.SIGINT)


def test_a_signal_waits_while_a_file_is_put_in_its_place(signals: Signals) -> None:
    done = []

    def save() -> None:
        with signals.held():
            send(signal.SIGTERM)
            done.append("saved")

    with pytest.raises(Stopped):
        save()
    assert done == ["saved"]
    with signals.held():
        pass  # it was raised once


def test_a_command_at_its_end_has_nothing_to_stop(signals: Signals) -> None:
    signals.conclude()
    send(signal.SIGTERM)
    assert signals.received == 0
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, "a second one ends the process"


@pytest.mark.parametrize(
    ("ends", "status"),
    [("pass", 0), ("raise DataError('no room')", 2), ("raise Stopped(signal.SIGINT)", 130)],
)
def test_a_signal_while_python_shuts_down_leaves_no_traceback(
    ends: str, status: int, tmp_path: Path
) -> None:
    """Libraries clean up then, and what is raised in that is printed with its traceback."""
    script = (
        "import atexit, os, signal, sys\n"
        "from configs.launch import run_command\n"
        "from errors import DataError, Stopped\n"
        "def main(config):\n"
        f"    {ends}\n"
        "atexit.register(lambda: os.kill(os.getpid(), signal.SIGTERM))\n"
        f"sys.argv = ['evaluate.py', 'editor=ft', 'output_dir={tmp_path / 'run'}']\n"
        "run_command('evaluate', main)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, "Traceback" in done.stderr) == (status, False), done.stderr


def test_what_is_ignored_from_outside_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        Signals().install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        for number in STOPPING:
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -15)])
def test_a_forked_process_does_not_raise_what_is_its_parent_s(
    signals: Signals, number: int, status: int
) -> None:
    child = os.fork()
    if child == 0:
        try:
            send(number)
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == status
    assert signals.received == 0


def scontrol(folder: Path, status: int) -> Path:
    """A stand-in on PATH that notes its arguments."""
    path = folder / "scontrol"
    path.write_text(f'#!/bin/sh\necho "$@" >> {folder}/asked\necho refused >&2\nexit {status}\n')
    path.chmod(0o755)
    return folder / "asked"


def test_a_job_is_requeued_by_its_own_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "815")
    asked = scontrol(tmp_path, 0)
    assert requeue() is None
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "800")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert requeue() is None
    assert asked.read_text().split("\n")[:2] == ["requeue 815", "requeue 800_3"]
    scontrol(tmp_path, 1)
    assert requeue() == "scontrol requeue 800_3: refused"
    monkeypatch.setenv("PATH", "/nowhere")
    assert str(requeue()).startswith("scontrol requeue 800_3: No such file")


@pytest.mark.parametrize(
    ("number", "slurm", "says"),
    [
        (signal.SIGTERM, True, "stopped by SIGTERM after step 3; the same command with resume=true "
         "output_dir=out goes on with the run\n"),
        (signal.SIGUSR1, True, "the job is in the queue again and goes on by itself\n"),
        (signal.SIGUSR1, False, "resume=true output_dir=out goes on with the run\n"),
    ],
)  # fmt: skip
def test_a_command_ends_with_a_sentence_and_the_signal_s_status(
    number: int, slurm: bool, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], signals: Signals,
) -> None:  # fmt: skip
    monkeypatch.setattr("sys.argv", ["train.py", "experiment=demo", "output_dir=out"])
    if slurm:
        monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("PATH", str(tmp_path))
    scontrol(tmp_path, 0)

    def main(config: object) -> None:
        raise Stopped(number, "after step 3")

    with pytest.raises(SystemExit) as caught:
        run_command("train", main)
    assert caught.value.code == 128 + number
    assert capsys.readouterr().err.endswith(says)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_signal_outside_a_job_ends_a_command_as_one_within(
    moment: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    signals: Signals,
) -> None:  # fmt: skip
    """While Hydra composes the configuration, or is between two jobs of a sweep."""
    monkeypatch.setattr("sys.argv", ["train.py", "experiment=demo", "output_dir=out"])
    run_of_hydra = Hydra.run

    def interrupted(*arguments: Any, **options: Any) -> None:
        if moment == "after":
            run_of_hydra(*arguments, **options)
        send(signal.SIGTERM)

    monkeypatch.setattr(Hydra, "run", interrupted)
    with pytest.raises(SystemExit) as caught:
        run_command("train", lambda config: 0.0)
    assert caught.value.code == 128 + signal.SIGTERM
    assert capsys.readouterr().err.endswith("stopped by SIGTERM\n")
