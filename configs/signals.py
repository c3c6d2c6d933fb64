"""What SIGTERM, SIGINT, SIGUSR1 and SIGUSR2 do: a command ends with a sentence and a status.

    at once     the default: `errors.Stopped` is raised where the process is
    deferred    the first signal is only noted, and a training asks for it after each step; the
                second one is raised at once
    held        while a file is put in its place; what came meanwhile is raised afterwards
    concluded   when a command has come to its end: nothing is left to stop

The status is 128 + the signal's number, as a shell says it. SIGUSR1 is what SLURM sends before the
time is up (`#SBATCH --signal=USR1@120`): the job is then put back into the queue.
"""

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from errors import STOPPING, Stopped
from results.files import is_first_process

REQUEUE: int | None = getattr(signal, "SIGUSR1", None)
_NOTED = b"The training stops after this step; a second signal stops it at once.\n"


class Signals:
    """The signals of this process.

    Attributes:
        received: number of the first signal that came; 0 before.
        deferred: whether the first one waits until somebody asks for it.
    """

    def __init__(self) -> None:
        self.received, self.deferred = 0, False
        self._held, self._due, self._is_concluded = False, False, False
        self._process = os.getpid()

    def install(self) -> None:
        """Takes the signals over; one that is ignored from outside (`nohup`, `&`) stays ignored."""
        self.__init__()  # type: ignore[misc]  # a fork, or a second run in one process
        if threading.current_thread() is not threading.main_thread():
            return
        for number in STOPPING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._handle)

    def conclude(self) -> None:
        """From here on the first signal changes nothing, and a second one ends the process.

        What is raised while Python shuts down ends in a traceback.
        """
        self._is_concluded = True

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is raised within the block.

        Raises:
            Stopped: after the block, for a signal that came meanwhile.
        """
        self._held, self._due = True, False
        try:
            yield
        finally:
            self._held = False
        if self._due:
            raise Stopped(self.received)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        del frame
        if os.getpid() != self._process:
            _as_a_child(number)
            return
        if self._is_concluded:
            signal.signal(number, signal.SIG_DFL)
            return
        is_first, self.received = not self.received, self.received or number
        if self.deferred and is_first:
            if is_first_process():
                os.write(2, _NOTED)
        elif self._held:
            self._due = True
        else:
            raise Stopped(self.received)


signals = Signals()


def requeue() -> str | None:
    """Puts this SLURM job back into the queue.

    Returns:
        Why that failed; None where the job is queued again.
    """
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    job = f"{array}_{task}" if array and task else os.environ["SLURM_JOB_ID"]
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, check=False
        )
    except OSError as error:
        return f"scontrol requeue {job}: {error.strerror}"
    output = " ".join((done.stderr or done.stdout).split())
    return f"scontrol requeue {job}: {output or done.returncode}" if done.returncode else None


def requeue_after(number: int) -> tuple[bool, str]:
    """Puts this SLURM job back into the queue where a signal asks for that.

    Returns:
        Whether it is in the queue again, and a clause that says what was done; empty for nothing.
    """
    if number != REQUEUE or "SLURM_JOB_ID" not in os.environ:
        return False, ""
    problem = requeue()
    if problem is None:
        return True, "; the job is in the queue again and goes on by itself"
    return False, f", and the job could not be put back into the queue ({problem})"


def _as_a_child(number: int) -> None:
    """In a process that was forked off: it ends as if nothing was installed, or lives on.

    A terminal and a scheduler send SIGINT and SIGUSR1 to everyone; the parent decides what follows.
    """
    if number == signal.SIGTERM:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
