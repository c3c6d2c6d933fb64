"""Runs the entry points as a user would: in a subprocess, from the root of the checkout."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared"))


def environment() -> dict[str, str]:
    """What the commands find around them, with what a test has set."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "COLUMNS": "200",
    }


def run(script: str, *options: str | Path, status: int = 0) -> str:
    """Runs `python SCRIPT OPTIONS` and returns what it printed (both streams).

    Raises:
        AssertionError: it ended with another status than expected.
    """
    done = subprocess.run(
        [sys.executable, script, *map(str, options)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == status, printed
    return printed


def killed_after(batches: int, folder: Path, *options: str) -> None:
    """Starts evaluate.py and kills all its processes once so many batches are on disk."""
    process = subprocess.Popen(
        [sys.executable, "evaluate.py", *options], cwd=ROOT, env=environment(),
        start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    while len(list((folder / "partial").glob("[0-9]*.parquet"))) < batches:
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "summary.json").exists()
