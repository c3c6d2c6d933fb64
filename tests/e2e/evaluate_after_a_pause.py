"""`evaluate.py` whose first process takes two seconds to remove an earlier run from its folder."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import evaluate
from configs import rundir
from configs.launch import run_command

remove_run = rundir.remove_run


def slowly(folder: Path) -> None:
    time.sleep(2)
    remove_run(folder)


if __name__ == "__main__":
    rundir.remove_run = slowly
    run_command("evaluate", evaluate.main)
