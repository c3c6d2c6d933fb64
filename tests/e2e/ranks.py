"""Runs a command in two processes that are started from outside, as torchrun or srun would.

    python tests/e2e/ranks.py torchrun|srun SCRIPT WORD ...

A word `1:WORD` is for that rank alone. Both are forks of this process, which costs no second
import of the libraries. The last lines on stderr are `rank R ended with STATUS`; a process that is
still there a minute after the other one has ended is killed, and that is its status.
"""

from __future__ import annotations

import importlib
import os
import runpy
import signal
import socket
import sys
import time
from pathlib import Path

SIZE = 2
PATIENCE = 60  # seconds


def environment(launcher: str, rank: int, port: int) -> dict[str, str]:
    """What a launcher sets for a process."""
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if launcher == "torchrun":
        return common | {
            "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0",
            "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0",
            "WORLD_SIZE": str(SIZE), "LOCAL_WORLD_SIZE": str(SIZE),
        }  # fmt: skip
    return {
        "MASTER_PORT": str(port), "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train",
        "SLURM_NTASKS": str(SIZE), "SLURM_NTASKS_PER_NODE": str(SIZE), "SLURM_NNODES": "1",
        "SLURM_NODELIST": "127.0.0.1", "SLURM_NODEID": "0", "SLURM_PROCID": str(rank),
        "SLURM_LOCALID": str(rank),
    }  # fmt: skip


def main(launcher: str, script: str, words: list[str]) -> int:
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    for module in ("configs.launch", "runner.assembly", "runner.start", "reporting.figures"):
        importlib.import_module(module)
    port = free_port()
    ranks = {}
    for rank in range(SIZE):
        pid = os.fork()
        if pid == 0:
            others = tuple(f"{other}:" for other in range(SIZE) if other != rank)
            mine = [w.removeprefix(f"{rank}:") for w in words if not w.startswith(others)]
            os.environ.update(environment(launcher, rank, port))
            sys.argv = [script, *mine]
            sys.path[0] = str(Path(script).resolve().parent)
            runpy.run_path(script, run_name="__main__")
            sys.exit(0)
        ranks[pid] = rank
    return _wait(ranks)


def _wait(ranks: dict[int, int]) -> int:
    """The worst exit status; prints those of all."""
    statuses: dict[int, int] = {}
    until = float("inf")
    while len(statuses) < SIZE:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid in ranks:
            statuses[ranks[pid]] = os.waitstatus_to_exitcode(status)
            until = time.monotonic() + PATIENCE
        elif time.monotonic() > until:
            for left, rank in ranks.items():
                if rank not in statuses:
                    os.kill(left, signal.SIGKILL)
        time.sleep(0.02)
    for rank, status in sorted(statuses.items()):
        print(f"rank {rank} ended with {status}", file=sys.stderr)
    return max(statuses.values(), key=abs)


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    sys.exit(abs(main(sys.argv[1], sys.argv[2], sys.argv[3:])))
