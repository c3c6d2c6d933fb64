"""Runs the entry points as a user would: in a subprocess, from the root of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared"))


def run(script: str, *options: str | Path, status: int = 0) -> str:
    """Runs `python SCRIPT OPTIONS` and returns what it printed (both streams).

    Raises:
        AssertionError: it ended with another status than expected.
    """
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "COLUMNS": "200",
    }
    done = subprocess.run(
        [sys.executable, script, *map(str, options)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    printed = done.stdout + done.stderr
    assert done.returncode == status, printed
    return printed
