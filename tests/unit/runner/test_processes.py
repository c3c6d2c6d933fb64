"""How the processes of a run find each other, and how one ends that hangs."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from torch import distributed

from errors import ConfigError
from runner.processes import _meet, last_words
from runner.watch import End, Watch
from tests.e2e.ranks import free_port


def test_a_first_process_behind_a_firewall_is_named() -> None:
    """The store is open to all, and the port that the system chose is not."""
    store, port = distributed.HashStore(), free_port()
    store.set("hub", f"{port} token")
    with pytest.raises(ConfigError, match=f"rank 1 does not reach the first process.*:{port} "):
        _meet(Watch(1, 2), "127.0.0.1", store, {})


def test_a_job_whose_first_process_hangs_goes_back_into_the_queue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As in a collective of NCCL, where no handler of a signal runs."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\n')
    scontrol.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "815")
    statuses: list[int] = []
    monkeypatch.setattr("os._exit", statuses.append)
    for number in (signal.SIGTERM, signal.SIGUSR1):
        watch = Watch(0, 2, last_words)
        watch.end = End(0, 128 + number, f"stopped by {number.name}")
        watch._end_process()
    assert statuses == [128 + signal.SIGTERM, 128 + signal.SIGUSR1]
    assert (tmp_path / "calls").read_text() == "requeue 815\n"
    assert capfd.readouterr().err.splitlines() == [
        "stopped by SIGTERM",
        "stopped by SIGUSR1; the job is in the queue again and goes on by itself",
    ]
