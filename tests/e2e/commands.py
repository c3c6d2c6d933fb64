"""Runs the entry points as a user would: in a process of its own, from the checkout's root."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[2]
LONGEST = 550  # seconds that a command may take
SHARED = Path(os.environ.get("TMKE_SHARED", ROOT.parent / "shared"))


def environment() -> dict[str, str]:
    """What the commands find around them, with what a test has set."""
    return os.environ | {
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "WANDB_MODE": "offline",
        "COLUMNS": "200",
        "CUDA_VISIBLE_DEVICES": "",  # the same numbers on a machine that has a GPU
    }


@contextmanager
def interruptible() -> Iterator[None]:
    """What is started inside hears SIGINT, also where the tests run in the background.

    A shell starts those with SIGINT ignored, which every process hands on to its children; a
    handler of this process is none of theirs.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def run(script: str, *options: str | Path, status: int = 0, lines: str = "") -> str:
    """Runs `python SCRIPT OPTIONS` and returns what it printed (both streams).

    Args:
        script: the entry point.
        options: its words.
        status: with which it has to end.
        lines: what it finds on stdin.

    Raises:
        AssertionError: it ended with another status than expected.
    """
    command = [script, *map(str, options)]
    # What Python itself reads from its surroundings needs a new interpreter.
    fresh = "PYTHONPATH" in environment()
    ended, printed = (_in_new_interpreter if fresh else _in_warm_process)(command, lines)
    assert ended == status, printed
    return printed


def _in_new_interpreter(command: list[str], lines: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment(),
        input=lines,
        capture_output=True,
        text=True,
        timeout=LONGEST,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def _in_warm_process(command: list[str], lines: str) -> tuple[int, str]:
    with TemporaryDirectory() as folder:
        streams = [f"{folder}/{name}" for name in ("out", "err")]
        stdin = Path(folder) / "in"
        stdin.write_text(lines)
        process = Warm(command, streams, stdin=stdin)
        status = process.wait()
        return status, "".join(Path(path).read_text() for path in streams)


class Warm:
    """A command in a fork of a process that has loaded the libraries (`tests/e2e/warm.py`).

    Args:
        command: script and options.
        streams: files for its stdout and stderr.
        variables: what it finds in its environment besides `environment()`.
        stdin: a file with what is typed.
    """

    def __init__(
        self,
        command: list[str],
        streams: list[str],
        variables: Mapping[str, str] | None = None,
        stdin: Path | str = os.devnull,
    ) -> None:
        self.command, self._server = command, _server()
        around = environment() | dict(variables or {})
        request = {
            "command": command, "environment": around, "streams": streams, "stdin": str(stdin),
        }  # fmt: skip
        assert self._server.stdin is not None
        self._server.stdin.write(f"{json.dumps(request)}\n".encode())
        self.pid = self._answer()
        self.status: int | None = None

    def wait(self) -> int:
        """Its exit status; minus the number of the signal that ended it."""
        if self.status is None:
            self.status = self._answer()
        return self.status

    def ended(self) -> bool:
        return self._answered(0)

    def kill(self) -> None:
        """Ends it and all processes that it has started."""
        os.killpg(self.pid, signal.SIGKILL)
        self.wait()

    def _answer(self) -> int:
        if not self._answered(LONGEST):
            os.killpg(self.pid, signal.SIGKILL)
            raise AssertionError(f"{self.command} did not end in {LONGEST} s")
        assert self._server.stdout is not None
        return int(self._server.stdout.readline())

    def _answered(self, seconds: float) -> bool:
        assert self._server.stdout is not None
        return bool(select.select([self._server.stdout], [], [], seconds)[0])


@cache
def _server() -> subprocess.Popen[bytes]:
    # Unbuffered, so that `select` sees every answer that was not read yet.
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("warm.py"))],
        cwd=ROOT, env=environment(),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
    )  # fmt: skip


def killed_after(batches: int, folder: Path, *options: str, ranks: tuple[str, ...] = ()) -> None:
    """Starts evaluate.py and kills all its processes once so many batches are on disk.

    Args:
        batches: so many.
        folder: of the results.
        options: words of the command line.
        ranks: what starts the command in several processes.
    """
    process = Warm([*ranks, "evaluate.py", *options], [os.devnull, os.devnull])
    while len(list((folder / "partial").glob("[0-9]*.parquet"))) < batches:
        assert not process.ended(), "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert not (folder / "summary.json").exists()
