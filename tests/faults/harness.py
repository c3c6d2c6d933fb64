"""Starts a command, kills it at a chosen moment, starts it again, and says what is wrong.

Nothing here decides what has to be true of a result (`tests/faults/sameness.py`) or which moments
are tried (`tests/faults/cases.py`).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.e2e.commands import Warm
from tests.faults.doomed import struck

LIMIT = 300.0  # seconds that one start may take
LEFT_ALONE = 90.0  # ... and the processes that a blow has not hit
_DOOMED = str(Path(__file__).with_name("doomed.py"))


@dataclass(frozen=True)
class Command:
    """A command with its options, without those that say where it writes.

    Attributes:
        reads: folders that it loads from; files opened there count as events too.
        scheduler: "torchrun" or "slurm" start its processes; None: it does so itself.
    """

    script: str
    options: tuple[str, ...]
    processes: int = 1
    scheduler: str | None = None
    reads: tuple[str, ...] = ()

    def __str__(self) -> str:
        by = f" by {self.scheduler}" if self.scheduler else ""
        return f"{self.script} {self.processes}p{by}"


@dataclass(frozen=True)
class Blow:
    """A signal and its moment: the n-th event of a process, or so many seconds after it.

    Attributes:
        what: only events with these words count; None: all of them.
        target: whom it hits, from the point of view of the process whose events are counted.
        delay: seconds after the event; None: before the event itself.
    """

    signal: signal.Signals
    nth: int = 1
    what: str | None = None
    rank: int = 0
    target: str = "self"  # "self" | "other" | "all"
    delay: float | None = None

    def __str__(self) -> str:
        whom = {"self": f"rank {self.rank}", "other": f"not {self.rank}", "all": "all"}[self.target]
        return f"{self.signal.name} to {whom}"


@dataclass
class Start:
    """One start of a command, ended.

    Attributes:
        status: of the process, or of each rank where a scheduler started them.
        printed: both streams.
        moment: what was about to happen when the signal came; None: it ended before.
        events: what each rank did.
        left: processes that were still there some seconds after the end.
    """

    status: int
    statuses: dict[int, int]
    printed: str
    moment: str | None
    events: dict[int, list[str]] = field(default_factory=dict)
    seconds: float = 0.0
    left: list[str] = field(default_factory=list)
    hung: bool = False


def start(
    command: Command,
    folder: Path,
    notes: Path,
    blow: Blow | None = None,
    *,
    requeued: int = 0,
    variables: dict[str, str] | None = None,
) -> Start:
    """Starts a command and waits for its end.

    Args:
        command: what to start.
        folder: the output folder.
        notes: a folder for what is learned about this start, emptied here.
        blow: the signal, if any.
        requeued: how often SLURM has started it before; elsewhere resume=true says so.
        variables: more of its environment.
    """
    notes.mkdir(parents=True, exist_ok=True)
    for pattern in ("events-*", "pids/*", "armed", "moment", "statuses"):
        for file in notes.glob(pattern):
            file.unlink()
    plan = {
        "script": command.script, "notes": str(notes), "watched": [str(folder), *command.reads],
        "processes": command.processes, "scheduler": command.scheduler, "port": _free_port(),
        "blow": blow and asdict(blow),
    }  # fmt: skip
    around = {"TMKE_FAULT": json.dumps(plan), **_allocation(command, requeued, notes)}
    streams = [str(notes / name) for name in ("out", "err")]
    options = [*command.options, f"output_dir={folder}"]
    if not (requeued and command.scheduler == "slurm"):
        options.append("resume=true")
    begun = time.monotonic()
    process = Warm([_DOOMED, *options], streams, around | (variables or {}))
    hung = not _wait(process, notes, blow, begun)
    if hung:
        process.kill()
    status = process.wait()
    ended = Start(
        status,
        _statuses(notes),
        "".join(Path(stream).read_text(errors="replace") for stream in streams),
        _text(notes / "moment"),
        {int(f.name[7:]): f.read_text().splitlines() for f in notes.glob("events-*")},
        time.monotonic() - begun,
        hung=hung,
    )
    ended.left = _left_behind(process.pid, notes)
    return ended


def _wait(process: Warm, notes: Path, blow: Blow | None, begun: float) -> bool:
    """Waits for the end, striking late where that is asked for; False where no end comes."""
    limit, armed = begun + LIMIT, notes / "armed"
    while not process.ended():
        now = time.monotonic()
        if blow and blow.delay is not None and armed.exists():
            time.sleep(blow.delay)
            _strike(notes, blow)
        if (notes / "moment").exists() and blow and blow.signal != signal.SIGSTOP:
            limit = min(limit, now + LEFT_ALONE)
        if now > limit:
            return False
        time.sleep(0.005)
    return True


def _strike(notes: Path, blow: Blow) -> None:
    """Sends a late signal, if there is still somebody to get it."""
    moment = f"{blow.delay:.2f} s after {(notes / 'armed').read_text()}"
    (notes / "armed").unlink()
    for pid in struck(notes, blow.rank, blow.target):
        try:
            os.kill(pid, blow.signal)
            (notes / "moment").write_text(moment)
        except ProcessLookupError:
            continue


def _allocation(command: Command, requeued: int, notes: Path) -> dict[str, str]:
    """What SLURM says of the whole job; its `scontrol` is a file that writes down its calls."""
    if command.scheduler != "slurm":
        return {}
    tools = notes.parent / "bin"
    tools.mkdir(exist_ok=True)
    scontrol = tools / "scontrol"
    if not scontrol.exists():
        scontrol.write_text(f'#!/bin/sh\necho "$@" >> {notes.parent}/scontrol-calls\n')
        scontrol.chmod(0o755)
    return {
        "PATH": f"{tools}:{os.environ['PATH']}", "SLURM_JOB_ID": "4242", "SLURM_JOB_NAME": "faults",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1", "SLURM_NODELIST": "localhost",
        "SLURM_JOB_NODELIST": "localhost", "SLURM_RESTART_COUNT": str(requeued),
    }  # fmt: skip


def _statuses(notes: Path) -> dict[int, int]:
    text = _text(notes / "statuses")
    return {int(rank): status for rank, status in json.loads(text or "{}").items()}


def _text(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _left_behind(group: int, notes: Path, patience: float = 15.0) -> list[str]:
    """Command lines of this start's processes that do not go; they are ended here."""
    until = time.monotonic() + patience
    while (left := list(_alive(group, str(notes)))) and time.monotonic() < until:
        time.sleep(0.1)
    for pid, _ in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return [line for _, line in left]


def _alive(group: int, notes: str) -> Iterator[tuple[int, str]]:
    """Processes of a group, or with this start's plan in their environment."""
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal() or entry.name == str(os.getpid()):
            continue
        try:
            state = (entry / "stat").read_text().rpartition(")")[2].split()
            ours = int(state[2]) == group or notes in (entry / "environ").read_text(errors="ignore")
            if state[0] != "Z" and ours:
                line = (entry / "cmdline").read_text().replace("\0", " ").strip()
                yield int(entry.name), line[:120]
        except (OSError, ValueError):
            continue
