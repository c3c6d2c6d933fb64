"""Processes that prepare batches: what they report, and signals that are meant for the run.

A terminal sends SIGINT and a scheduler SIGTERM to every process of a run. A worker that ends on its
own breaks the step that is under way, so it ends when its process ends it and not before.

A DataLoader raises a worker's error anew, with the worker's traceback as its message. An error of
the user has one paragraph to say: it comes over in the place of its batch and is raised as it is.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from errors import STOPPING, DataError, TmkeError


def outlive_signals(worker: int) -> None:
    """Ignores every signal that does not come from the process which started this one.

    Args:
        worker: number of the worker, as DataLoader hands it to a `worker_init_fn`.
    """
    del worker
    if hasattr(signal, "sigwaitinfo"):  # which macOS and Windows have not
        signal.pthread_sigmask(signal.SIG_BLOCK, STOPPING)
        threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()


def _end_with(parent: int) -> None:
    while signal.sigwaitinfo(STOPPING).si_pid != parent:
        pass
    os._exit(0)


@dataclass(frozen=True)
class SendErrors:
    """A collate function whose errors of the user are what it returns."""

    collate: Callable[..., Any]

    def __call__(self, edits: Any) -> Any:
        """The batch, or the error that it cannot be made for."""
        try:
            return self.collate(edits)
        except TmkeError as error:
            return error.with_traceback(None)


def received(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches of workers.

    Args:
        batches: of a DataLoader. Nobody else keeps it, so that its workers end before an error goes
            on: with the error's traceback they would wait for 5 seconds each.

    Raises:
        TmkeError: what a worker sent in the place of a batch.
        DataError: a worker was killed.
    """
    try:
        while (batch := next(batches, None)) is not None:
            if isinstance(batch, TmkeError):
                del batches
                raise batch
            yield batch
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker"):
            raise
        raise DataError(
            f"a process that prepares batches is gone ({error}). The memory is full, or the shared "
            "memory (/dev/shm), or somebody ended it: take a smaller data.num_workers; 0 prepares "
            "batches in the run's own process."
        ) from error
