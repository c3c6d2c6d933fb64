"""A command whose processes come together as those of train.py, and then do what ACTS says.

    ACTS="WORD WORD" python tests/e2e/in_a_group.py WORD ...

ACTS has a word for each rank; the process with LOCAL_RANK=BROKEN_RANK ends before it has come.
Nothing is loaded, so what is tested is how processes end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def act(word: str) -> None:
    """Does what a word says."""
    from torch import distributed

    from errors import DataError

    acts = {
        "end": lambda: None,
        "error": lambda: fail(DataError("record 7 is broken.")),
        "bug": lambda: fail(ZeroDivisionError("a bug")),
        "full": lambda: fail(MemoryError()),
        "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
        "stopped": lambda: os.kill(os.getpid(), signal.SIGTERM),
        "barrier": distributed.barrier,
        "asleep": sleep,
        "last": lambda: fail(DataError("the disk is full."), after=1),
    }
    acts[word]()


def fail(error: Exception, after: float = 0) -> NoReturn:
    """Fails, if wanted when the others have nothing left to do."""
    time.sleep(after)
    raise error


def sleep() -> None:
    """What a kernel of NCCL does when another rank never comes."""
    print("asleep", flush=True)
    time.sleep(3600)


def main() -> None:
    if os.environ.get("LOCAL_RANK") == os.environ.get("BROKEN_RANK", "none"):
        sys.exit(3)
    from configs.launch import run_command
    from configs.schema import TrainConfig
    from runner.start import start

    def command(cfg: TrainConfig) -> None:
        with start(cfg, parallel=True) as placement:
            act(os.environ["ACTS"].split()[placement.rank])
        print(f"{placement.rank} {placement.cfg.output_dir}")

    run_command("train", command)


if __name__ == "__main__":
    main()
