"""A training by its command: stopped, killed, requeued, and gone on with."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.e2e.commands import run
from tests.e2e.conftest import MEND

pytestmark = pytest.mark.e2e
SIGNAL = "tests/e2e/train_with_signal.py"


def words(world: Path, folder: Path, *more: str) -> list[str]:
    return [
        *MEND[1:], "trainer.max_steps=6", "trainer.save_every=2", f"data.root={world}",
        f"output_dir={folder}", *more,
    ]  # fmt: skip


def last(folder: Path) -> dict[str, Any]:
    return dict(torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True))


def curves(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "metrics.csv")


def test_stopped_killed_and_started_again(
    world: Path, mend_on_llava: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    command = words(world, folder, "resume=true", "logger=csv")
    for step, number, status, held in (
        (1, signal.SIGTERM, 128 + signal.SIGTERM, 2),
        (4, signal.SIGKILL, -signal.SIGKILL, 4),
    ):
        monkeypatch.setenv("SIGNAL_STEP", str(step))
        monkeypatch.setenv("SIGNAL", str(int(number)))
        printed = run(SIGNAL, *command, status=status)
        assert last(folder)["global_step"] == held
        if number == signal.SIGTERM:
            assert "stopped by SIGTERM after step 2; the same command with resume=true" in printed
            assert f"output_dir={folder}" in printed
            assert "Traceback" not in printed
    run("train.py", *command)
    found, expected = last(folder), last(mend_on_llava)
    assert found["global_step"] == expected["global_step"] == 6
    for name, value in expected["state_dict"].items():
        assert torch.equal(value, found["state_dict"][name]), name
    best = [f / "checkpoints" / "best.ckpt" for f in (folder, mend_on_llava)]
    steps = [torch.load(path, weights_only=True)["global_step"] for path in best]
    assert steps[0] == steps[1]
    pd.testing.assert_frame_equal(curves(folder), curves(mend_on_llava))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.name != "log.txt"}
    assert "Finished already: all of its 6 steps are done" in run("train.py", *command)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_job_in_the_queue_again_goes_on_with_what_was_typed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    for name, value in {
        "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "815", "SLURM_NTASKS": "1",
        "SLURM_JOB_NAME": "bash", "SIGNAL_STEP": "3", "SIGNAL": str(int(signal.SIGUSR1)),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    command = words(world, folder, "logger=none")
    printed = run(SIGNAL, *command, status=128 + signal.SIGUSR1)
    assert "the job is in the queue again and goes on by itself" in printed
    assert (tmp_path / "asked").read_text() == "requeue 815\n"
    assert not list(folder.glob("hpc_ckpt*"))
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    refused = run("train.py", *command, "editor.rank=4", status=2)
    assert "editor.rank was" in refused
    run("train.py", *command, "editor.lr=0.25")
    found = last(folder)
    assert found["global_step"] == 6
    assert found["optimizer_states"][0]["param_groups"][0]["lr"] == 0.25
    assert found["config"]["editor"]["lr"] == 0.25


def test_a_new_folder_gets_the_whole_training(
    world: Path, mend_on_llava: Path, tmp_path: Path
) -> None:
    ckpt = f"ckpt={mend_on_llava}/checkpoints/last.ckpt"
    run("train.py", ckpt, "trainer.max_steps=7", "logger=csv", f"output_dir={tmp_path}/run")
    steps = curves(tmp_path / "run").dropna(subset=["train/loss"])["step"].tolist()
    assert steps == list(range(7))
    files = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert files == {"best.ckpt", "last.ckpt"}
    damaged = tmp_path / "run" / "checkpoints" / "last.ckpt"
    damaged.write_bytes(damaged.read_bytes()[:1000])
    refused = run(
        "train.py", ckpt, "trainer.max_steps=7", "logger=csv", "resume=true",
        f"output_dir={tmp_path}/run", status=2,
    )  # fmt: skip
    assert "damaged" in refused
    assert f"ckpt={damaged.with_name('best.ckpt')} goes on from the best step" in refused


@pytest.mark.ddp
def test_two_processes_stop_at_one_step_and_one_process_goes_on(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    short = ("logger=csv", "editor.layers=1", "editor.rank=2", "trainer.max_steps=4")
    command = words(world, folder, *short, "resume=true", "editor.batch_size=2")
    for name, value in {"SIGNAL_STEP": "1", "SIGNAL": "15", "SIGNAL_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    status = 128 + signal.SIGTERM
    printed = run(
        "tests/e2e/ranks.py", "torchrun", SIGNAL, *command, "trainer=ddp_cpu", status=status
    )
    assert f"rank 0 ended with {status}\nrank 1 ended with {status}\n" in printed, printed
    assert printed.count("stopped by SIGTERM after step 2; the same command") == 1
    assert last(folder)["global_step"] == 2
    refused = run("train.py", *command, status=2)
    assert "a step took 2 x 2 edits" in refused
    assert "would take 1 x 2" in refused
    run("train.py", *command, "editor.batch_size=4")
    found = last(folder)
    assert found["global_step"] == 4
    assert found["loops"]["fit_loop"]["state_dict"]["combined_loader"] == [{"epoch": 0, "done": 4}]
    assert curves(folder).dropna(subset=["train/loss"])["step"].tolist() == [0, 1, 2, 3]
