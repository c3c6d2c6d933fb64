"""What the processes of a parallel run settle among themselves besides Lightning's training steps.

Lightning starts the other processes of a machine (`strategy=ddp`) by running the command again with
their rank in the environment; under SLURM all are started from outside.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import lightning as L
from torch import distributed

from errors import USER_ERROR, TmkeError

_PATIENCE = 5.0  # seconds in which a process that broke a connection has come to its end


@contextmanager
def abort_all_on_error(trainer: L.Trainer) -> Iterator[None]:
    """Ends all processes when one of them fails, with the message of that one alone.

    Without this the first process leaves the others waiting for it, and an error elsewhere ends in
    as many tracebacks about lost connections as there are processes.

    Raises:
        TmkeError: in the first process, where another one failed; that one has said why.
    """
    try:
        yield
    except Exception as error:
        children = list(getattr(trainer.strategy.launcher, "procs", ()))
        if children:
            # Lightning's observer would kill this process with the others, its message unsaid.
            trainer.strategy.launcher.procs.clear()  # type: ignore[union-attr]
        lost = _lost_another(error)
        until = time.monotonic() + _PATIENCE
        while lost and children and time.monotonic() < until:
            if any(child.poll() is not None for child in children):
                break
            time.sleep(0.05)
        for child in children:
            if child.poll() is None:
                child.kill()
            child.wait()
        if not lost:
            raise
        if not trainer.is_global_zero:
            sys.exit(USER_ERROR)
        raise TmkeError(
            "another process of this run ended, so all of them did; what it said stands above. "
            "If it said nothing, it was killed, most often for want of memory."
        ) from error


def _lost_another(error: Exception) -> bool:
    """Whether an error says that another process is gone."""
    of_gloo = isinstance(error, RuntimeError) and "gloo" in str(error)
    return of_gloo or isinstance(error, distributed.DistError)
