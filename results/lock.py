"""The lock of an output folder: of all live runs, one writes into it.

    DIR/.lock    held by a run's first process from before it changes anything until its end

The kernel holds it (`flock`), so it is free as soon as that process is gone, killed or not. What
stands in the file says who held it last; a file that was left behind means nothing.
"""

import errno
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from errors import ConfigError

log = logging.getLogger(__name__)
LOCK = ".lock"
# Seconds in which a lock may still become free: one that is only being looked at; one whose holder
# has ended, but not its children; and one of this job before it was put back into the queue, on a
# machine that a file server has not given up yet.
_GLANCE, _ENDED, _REQUEUED = 0.3, 15.0, 120.0
_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds the lock of a folder, which has to be there.

    Raises:
        ConfigError: another run holds it.
        OSError: nothing can be written there.
    """
    held = _acquire(folder)
    if held is None:
        yield
        return
    path = folder / LOCK
    with suppress(OSError):  # a full disk: the lock is the kernel's, and this its label
        path.write_text(json.dumps(_this_process()), encoding="utf-8")
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        held.release()


def check_unlocked(folder: Path) -> None:
    """Refuses a folder that another live run writes into; changes nothing.

    Raises:
        ConfigError: there is one.
    """
    if not (folder / LOCK).is_file():
        return
    with suppress(OSError):
        held = _acquire(folder)
        if held is not None:
            held.release()


def _acquire(folder: Path) -> Any:
    """The lock, held; None, with a warning, where the file system has none."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, blocking=False, fallback_to_soft=False)
    began = time.monotonic()
    while True:
        try:
            lock.acquire()
        except Timeout:
            holder = _holder(folder)
            if time.monotonic() - began > _patience(holder):
                raise ConfigError(
                    f"output_dir={folder} is in use: {_describe(holder)} writes into it. Name "
                    "another folder, or wait until that run ends."
                ) from None
            time.sleep(0.1)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            log.warning(
                "the file system of output_dir=%s has no locks (%s): nothing keeps a second run "
                "from writing into it", folder, error.strerror,
            )  # fmt: skip
            return None
        else:
            return lock


def _this_process() -> dict[str, Any]:
    return {
        "process": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "job": os.environ.get("SLURM_JOB_ID"),
        "restarts": int(os.environ.get("SLURM_RESTART_COUNT") or 0),
    }


def _holder(folder: Path) -> dict[str, Any]:
    """What the lock's file says; nothing while it is being written."""
    try:
        content = json.loads((folder / LOCK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _describe(holder: dict[str, Any]) -> str:
    if not holder:
        return "another run"
    job = f", SLURM job {holder['job']}" if holder.get("job") else ""
    return (
        f"process {holder.get('process')} on {holder.get('host')}{job}, since {holder.get('since')}"
    )


def _patience(holder: dict[str, Any]) -> float:
    """Seconds to wait for a holder."""
    here = _this_process()
    if holder.get("host") == here["host"] and not _is_alive(holder.get("process")):
        return _ENDED
    of_this_job = here["job"] is not None and holder.get("job") == here["job"]
    return _REQUEUED if of_this_job and holder.get("restarts", 0) < here["restarts"] else _GLANCE


def _is_alive(process: object) -> bool:
    if os.name == "nt":  # which has no signal that only asks
        return True
    try:
        os.kill(process, 0) if isinstance(process, int) else None
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return isinstance(process, int)
