"""Lines that a user types, with a history that lasts; or those of a pipe."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_state_path

from errors import Stopped

PROMPT = "> "
_LONGEST = 1000  # lines of the history
log = logging.getLogger(__name__)


def is_typed() -> bool:
    """Whether somebody types; otherwise lines come from a pipe or a file."""
    return sys.stdin is not None and sys.stdin.isatty()


def lines() -> Iterator[str]:
    """The lines of stdin, up to its end; prompts go to the terminal, never into a piped stdout."""
    if sys.stdin is None:
        return
    if not is_typed():
        number, encoding = sys.stdin.fileno(), sys.stdin.encoding
        with open(number, encoding=encoding, errors="backslashreplace", closefd=False) as piped:
            yield from piped
        return
    is_shown = sys.stdout.isatty()
    with _history(history_file()):
        while True:
            if not is_shown:
                print(PROMPT, end="", file=sys.stderr, flush=True)
            try:
                yield input(PROMPT if is_shown else "")
            except (EOFError, Stopped) as end:
                print(file=sys.stdout if is_shown else sys.stderr)
                if isinstance(end, Stopped):
                    raise
                return


def history_file() -> Path:
    """Where typed lines are remembered."""
    return user_state_path("tmke", appauthor=False) / "edit-history"


@contextmanager
def _history(path: Path) -> Iterator[None]:
    """Arrow keys bring lines back, those of earlier times too, where the system has readline."""
    try:
        import readline
    except ImportError:  # Windows, whose terminal has a history of its own
        yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            readline.read_history_file(path)
    except OSError as error:
        log.warning("earlier lines are not remembered: %s (%s)", path, error.strerror)
    readline.set_history_length(_LONGEST)
    try:
        yield
    finally:
        try:
            readline.write_history_file(path)
        except OSError as error:
            log.warning("lines are not remembered: %s (%s)", path, error.strerror)
