"""Processes that prepare batches, under signals that are meant for the run.

A terminal sends SIGINT and a scheduler SIGTERM to every process of a run. A worker that ends on its
own breaks the step that is under way, so it ends when its process ends it and not before.
"""

import os
import signal
import threading

from errors import STOPPING


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
