"""`log.txt` in the output folder: everything that a run's first process has logged.

A run that goes on appends to it. A disk that is full costs lines and not the run.
"""

import logging
import shlex
import sys
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import Stopped, TmkeError

_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
OFF_SCREEN = {"is_off_screen": True}  # the `extra` of a line that is for the file alone
_MOST_RECORDS = 1000  # records before there is a folder


def is_for_screen(record: logging.LogRecord) -> bool:
    """Whether a line is also for the screen."""
    return not getattr(record, "is_off_screen", False)


class _Recent(logging.Handler):
    """Keeps what is logged before the output folder is there."""

    def __init__(self) -> None:
        super().__init__()
        self.records: deque[logging.LogRecord] = deque(maxlen=_MOST_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


class _LogFile(logging.Handler):
    """Opens the file for each line: what is logged then is there, whatever comes after it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.setFormatter(_FORMAT)
        self._path = path

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self.format(record)
        except Exception:  # a wrong line of a library, say
            self.handleError(record)
        else:
            self.write(text)

    def write(self, text: str) -> None:
        try:
            with self._path.open("a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(f"{text}\n")
        except OSError:
            pass

    def note(self, level: int, text: str) -> None:
        """A line for the file alone."""
        self.emit(logging.LogRecord(__name__, level, __file__, 0, text, None, None))


recent = _Recent()
"""Belongs to the root logger from a command's beginning on."""


@contextmanager
def logged_to(path: Path) -> Iterator[None]:
    """What is logged goes into a file too, from the command's beginning until the block ends.

    The file also says what was typed, and why a block ended early.
    """
    file, root = _LogFile(path), logging.getLogger()
    file.note(logging.INFO, shlex.join(sys.argv))
    while recent.records:
        file.emit(recent.records.popleft())
    is_recording = recent in root.handlers
    root.removeHandler(recent)
    root.addHandler(file)
    try:
        yield
    except BaseException as error:
        file.note(logging.ERROR, _describe(error))
        raise
    finally:
        root.removeHandler(file)
        if is_recording:
            root.addHandler(recent)


def _describe(error: BaseException) -> str:
    if isinstance(error, TmkeError | Stopped):
        return str(error)
    return "".join(traceback.format_exception(error)).rstrip()
