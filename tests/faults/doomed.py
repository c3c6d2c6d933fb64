"""train.py or evaluate.py with a trap inside: it counts what it does, and at the n-th event dies.

What counts is everything that one can lose by dying just then: each file of the run that is opened,
renamed or removed, as Python's audit events tell before it happens, and each step of Lightning's
loops. The plan comes in the environment (`TMKE_FAULT`, JSON), so that processes which the command
starts itself find it too:

    script      train | evaluate
    notes       folder: pids/<rank>, events-<rank>, and `moment`, once the signal is sent
    watched     folders whose files count
    scheduler   "torchrun" | "slurm": starts `processes` of them here, each with its rank in the
                environment, at `port`; null: the command starts what it needs
    blow        null, or `Blow` of tests/faults/harness.py as JSON
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FILE_EVENTS = {
    "open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link",
    "os.symlink", "shutil.rmtree",
}  # fmt: skip
STEPS = {
    "setup", "training_step", "optimizer_step", "on_train_batch_end", "validation_step",
    "on_validation_end", "test_step", "on_test_epoch_end", "on_train_end", "teardown",
}  # fmt: skip
RANK = "TMKE_FAULT_RANK"  # of a process that was started here
STEP = "tmke.step"  # audit event of our own: the name of a step


def main() -> None:
    plan = json.loads(os.environ["TMKE_FAULT"])
    if plan["scheduler"]:
        _start_ranks(plan)
    rank = int(os.environ.get(RANK, os.environ.get("LOCAL_RANK", "0")))
    Trap(plan, rank).set()
    sys.path.insert(0, str(ROOT))
    from configs.launch import run_command

    command = plan["script"]
    run_command(command, __import__(command).main)


class Trap:
    """Counts the events of this process and sends the signal when its time has come."""

    def __init__(self, plan: dict[str, Any], rank: int) -> None:
        self._notes, self._watched = Path(plan["notes"]), tuple(plan["watched"])
        self._blow = plan["blow"] if plan["blow"] and plan["blow"]["rank"] == rank else None
        self._count, self._alike, self._process = 0, 0, os.getpid()
        self._events = os.open(
            self._notes / f"events-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        )
        pids = self._notes / "pids"
        pids.mkdir(exist_ok=True)
        (pids / f".{rank}").write_text(str(os.getpid()))
        (pids / f".{rank}").rename(pids / str(rank))

    def set(self) -> None:
        """Counts from now on."""
        sys.addaudithook(self._hear)
        from lightning.pytorch.trainer import call

        for name in ("_call_lightning_module_hook", "_call_strategy_hook"):
            setattr(call, name, _telling(getattr(call, name)))

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event not in FILE_EVENTS and event != STEP:
            return
        what = str(args[0]) if event == STEP else self._file(event, args)
        if what is None or os.getpid() != self._process:
            return
        self._count += 1
        line = f"{event.removeprefix('os.')} {what}"
        os.write(self._events, f"{line}\n".encode())
        if self._blow and self._has_come(line):
            self._strike(line)

    def _has_come(self, line: str) -> bool:
        assert self._blow is not None
        if self._blow["what"] is None:
            return self._count == self._blow["nth"]
        self._alike += self._blow["what"] in plain(line)
        return self._alike == self._blow["nth"] and self._blow["what"] in plain(line)

    def _file(self, event: str, args: tuple[Any, ...]) -> str | None:
        """The file of an event, or None where it is none of the run's."""
        if not isinstance(args[0], str | bytes | os.PathLike):
            return None
        path = os.fsdecode(args[1] if event == "os.rename" else args[0])
        if os.path.isabs(path):
            inside = [folder for folder in self._watched if path.startswith(folder)]
            return path[len(inside[0]) - len(Path(inside[0]).name) :] if inside else None
        # Whole trees are removed by names relative to an open folder; they can only be ours.
        return path if event in ("os.remove", "os.rmdir") else None

    def _strike(self, line: str) -> None:
        """Sends the signal now; where it is to come a little later, whoever waits sends it."""
        assert self._blow is not None
        late = self._blow["delay"] is not None
        note = os.open(self._notes / ("armed" if late else "moment"), os.O_WRONLY | os.O_CREAT)
        os.write(note, line.encode())
        os.close(note)
        if not late:
            for pid in struck(self._notes, self._blow["rank"], self._blow["target"]):
                os.kill(pid, self._blow["signal"])


def plain(line: str) -> str:
    """An event without the numbers of processes and draws in the names of unfinished files."""
    return re.sub(r"(/\.[^/]*?)-\d+(-[0-9a-f]+)?(\.\w+)?$", r"\1\3", line)


def struck(notes: Path, rank: int, target: str) -> list[int]:
    """Processes that a blow at a rank hits; the rank itself comes last, since it may be this one.

    Where the others have not started yet, it is the rank alone.
    """
    files = [file for file in (notes / "pids").iterdir() if file.name.isdecimal()]
    others = [int(file.read_text()) for file in files if file.name != str(rank)]
    own = [int(file.read_text()) for file in files if file.name == str(rank)]
    if target == "self" or not others:
        return own
    return others if target == "other" else others + own


def _telling(call: Any) -> Any:
    """A function of Lightning's that says which step it is about to make."""

    def tell(trainer: Any, name: str, *args: Any, **kwargs: Any) -> Any:
        if name in STEPS:
            sys.audit(STEP, name)
        return call(trainer, name, *args, **kwargs)

    return tell


def _start_ranks(plan: dict[str, Any]) -> None:
    """Starts the processes as torchrun or srun would, and returns in each of them.

    This process stays outside the run: it waits for all of them, leaves them alone when one fails,
    and writes down how each ended.
    """
    ranks: dict[int, int] = {}
    for rank in range(plan["processes"]):
        pid = os.fork()
        if pid == 0:
            os.environ |= _surroundings(plan, rank)
            return
        ranks[pid] = rank
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    statuses: dict[int, int] = {}
    while ranks:
        pid, status = os.wait()
        statuses[ranks.pop(pid)] = os.waitstatus_to_exitcode(status)
    (Path(plan["notes"]) / "statuses").write_text(json.dumps(statuses))
    os._exit(max(abs(status) for status in statuses.values()))


def _surroundings(plan: dict[str, Any], rank: int) -> dict[str, str]:
    """What a rank finds in its environment."""
    number, size = str(rank), str(plan["processes"])
    ours = {RANK: number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(plan["port"])}
    if plan["scheduler"] == "torchrun":
        return ours | {
            "RANK": number, "LOCAL_RANK": number, "GROUP_RANK": "0", "WORLD_SIZE": size,
            "LOCAL_WORLD_SIZE": size, "TORCHELASTIC_RUN_ID": "faults",
            "TORCHELASTIC_RESTART_COUNT": "0", "TORCHELASTIC_USE_AGENT_STORE": "False",
        }  # fmt: skip
    return ours | {
        "SLURM_PROCID": number, "SLURM_LOCALID": number, "SLURM_NODEID": "0", "SLURM_NTASKS": size,
        "SLURM_NTASKS_PER_NODE": size, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": size,
    }  # fmt: skip


if __name__ == "__main__":
    main()
