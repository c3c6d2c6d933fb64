"""Processes that prepare batches: what they report, and signals that are meant for the run.

A terminal sends SIGINT and a scheduler SIGTERM to every process of a run. A worker that ends on its
own breaks the step that is under way, so it ends when its process ends it and not before.

A DataLoader raises a worker's error anew, with the worker's traceback as its message. An error of
the user has one paragraph to say: it comes over in the place of its batch and is raised as it is.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from errors import STOPPING, DataError, TmkeError

if TYPE_CHECKING:
    from datamodules.images import ImageStore

log = logging.getLogger(__name__)
MOST = 4  # processes, or threads, that decode pictures where nobody says how many
_SHARED_MEMORY = "/dev/shm"  # through which batches go from one process to another
_PICTURES_OF_AN_EDIT = 8  # at most: none of the probes shows more than one of its own
_BATCHES_AHEAD = 2  # that each process prepares: DataLoader's own prefetch_factor


def cores(n_siblings: int = 1) -> int:
    """The cores that this process may use, of as many processes of a run on this machine."""
    usable = getattr(os, "sched_getaffinity", None)  # which macOS and Windows have not
    return max(1, (len(usable(0)) if usable else os.cpu_count() or 1) // n_siblings)


def automatic_workers(pictures: ImageStore, n_edits: int, n_siblings: int = 1) -> int:
    """How many processes prepare batches with `data.num_workers=auto`; the log has the reason.

    Args:
        pictures: all that the run shows, each of which was looked at.
        n_edits: of the largest batch.
        n_siblings: processes of this run on this machine, each of which asks for as many.
    """
    n, n_kept = pictures.n_sound, pictures.n_kept
    if n_kept >= n:
        if n:
            log.info("no process is started to decode pictures: the pixels of all %d are kept", n)
        return 0
    n_workers, why = min(MOST, cores(n_siblings) - 1), "as there are cores"
    if os.path.isdir(_SHARED_MEMORY):
        batch = min(n, n_edits * _PICTURES_OF_AN_EDIT) * pictures.picture_bytes
        free = shutil.disk_usage(_SHARED_MEMORY).free // n_siblings
        n_fitting = max(0, (free // max(1, batch) - 1) // _BATCHES_AHEAD)
        if n_fitting < n_workers:
            n_workers, why = n_fitting, f"as batches have room in {_SHARED_MEMORY}"
    log.info(
        "processes that prepare batches (data.num_workers=auto): %d%s; the pixels of %d of %d "
        "pictures are kept", n_workers, "" if n_workers == MOST else f", {why}", n_kept, n,
    )  # fmt: skip
    return n_workers


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
