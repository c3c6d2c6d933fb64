"""The exceptions that a user of the project can meet.

Each message is one paragraph that names the key or file, the value found, what is accepted and what
to do. Entry points print the message alone and exit with status 2; any other exception is a bug and
keeps its traceback.
"""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

USER_ERROR = 2  # exit status after an error that the user can fix
SIGNALLED = 128  # exit statuses above are those of signals, as a shell says them
# What ends a command. Windows has no SIGUSR1 and SIGUSR2.
STOPPING: tuple[int, ...] = (
    signal.SIGTERM,
    signal.SIGINT,
    *(getattr(signal, name) for name in ("SIGUSR1", "SIGUSR2") if hasattr(signal, name)),
)
# What the system answers of a place that is closed, no folder, or of a name too long.
_OF_PLACES = {
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR,
    errno.ELOOP, errno.ENOSPC,
}  # fmt: skip
TIME_IS_UP = 14  # stands for `trainer.max_time` among the signals: SIGALRM, which Windows has not


class TmkeError(Exception):
    """Base of every error that the user can fix."""


class ConfigError(TmkeError):
    """An option is unknown, has the wrong type or does not go with another one."""


class DataError(TmkeError):
    """A file, record or picture is missing, broken or unusable."""


class ModelError(TmkeError):
    """A base model or checkpoint is missing, damaged or of the wrong kind."""


class Stopped(BaseException):
    """A signal asked the process to end: no error, and nothing that `except Exception` swallows.

    Attributes:
        number: of the signal.
        after: what was done before, such as `after step 90`; empty where that needs no saying.
    """

    def __init__(self, number: int, after: str = "") -> None:
        super().__init__(number, after)
        self.number, self.after = number, after

    def __str__(self) -> str:
        return " ".join(filter(None, ("stopped by", signal.Signals(self.number).name, self.after)))

    @property
    def is_in_time(self) -> bool:
        """Whether no signal came and the time of `trainer.max_time` is up: a clean end."""
        return self.number == TIME_IS_UP

    @property
    def status(self) -> int:
        """The exit status that shells use for it."""
        return SIGNALLED + self.number


def some_of(names: Sequence[str], shown: int = 5) -> str:
    """The first of many names, for a message, and how many more there are.

    >>> some_of(["a", "b", "c"], shown=2)
    'a, b and 1 more'
    """
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


@contextmanager
def explained_places() -> Iterator[None]:
    """Turns what the system says of a place that may not be used into a `DataError` that names it.

    Who asks for a file says best what is wrong with it; this is for all who could not know.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, TmkeError) or not error.filename or error.errno not in _OF_PLACES:
            raise
        raise DataError(
            f"{os.fsdecode(error.filename)} cannot be used ({error.strerror}): make it accessible, "
            "or name another place."
        ) from error


def exit_status(command: Callable[[], int]) -> int:
    """What a command returns; or 2, and its message on stderr, after an error of the user."""
    try:
        with explained_places():
            return command()
    except TmkeError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
