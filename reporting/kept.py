"""What was read from a file is kept while the file is as it was: many parts of a report ask."""

from collections.abc import Callable
from functools import lru_cache, wraps
from pathlib import Path
from typing import TypeVar, TypeVarTuple

Others = TypeVarTuple("Others")
Content = TypeVar("Content")


def kept_while_unchanged(
    maxsize: int,
) -> Callable[[Callable[[Path, *Others], Content]], Callable[[Path, *Others], Content]]:
    """A reader that reads a file again only where its time of change or its size is another one.

    What is read is shared by all that ask for it, and not to be changed.

    Args:
        maxsize: how many files are kept, each with the other arguments of the reader, which have to
            be hashable.
    """

    def keep(read: Callable[[Path, *Others], Content]) -> Callable[[Path, *Others], Content]:
        @lru_cache(maxsize)
        def read_as_it_is(path: Path, _state: tuple[int, int], *others: *Others) -> Content:
            return read(path, *others)

        @wraps(read)
        def kept(path: Path, *others: *Others) -> Content:
            stat = path.stat()
            return read_as_it_is(path, (stat.st_mtime_ns, stat.st_size), *others)

        return kept

    return keep
