"""A command whose processes come together as those of train.py, and then do what ACTS says.

ACTS has a word for each rank. Nothing is loaded, so what is tested is how processes end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    from torch import distributed

    from configs.launch import run_command
    from configs.schema import TrainConfig
    from errors import DataError
    from runner.start import start

    def act(word: str) -> None:
        match word:
            case "error":
                raise DataError("record 7 is broken.")
            case "bug":
                raise ZeroDivisionError("a bug")
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "stopped":
                os.kill(os.getpid(), signal.SIGTERM)
            case "barrier":
                distributed.barrier()
            case "asleep":  # what a kernel of NCCL does when another rank never comes
                time.sleep(3600)
            case "last":  # what the first process does when the others have nothing left to do
                time.sleep(1)
                raise DataError("the disk is full.")

    def command(cfg: TrainConfig) -> None:
        with start(cfg, parallel=True) as placement:
            act(os.environ["ACTS"].split()[placement.rank])
        print(f"{placement.rank} {placement.cfg.output_dir}")

    run_command("train", command)


if __name__ == "__main__":
    main()
