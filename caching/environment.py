"""The cache's file: LMDB, opened once a process, and never before it was looked at.

LMDB maps its file into memory and trusts it: where the file ends before a page that is asked for,
the system ends the process. So its two head pages are read beforehand, and a file that is shorter
than they say is filled up with zeros and read through before it is used: pages that nothing is in
may well lie behind its end, and entries may not.
"""

from __future__ import annotations

import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import psutil
from filelock import FileLock, Timeout

from caching.entries import is_whole
from errors import ConfigError
from results.files import why_unwritable

log = logging.getLogger(__name__)
DATA, LOCK, OPENING = "data.mdb", "lock.mdb", "opening.lock"
_DATABASES = 1024  # models at most whose entries stand in one file
_READERS = 512  # processes at most that read at one moment
_WAIT = 60.0  # seconds for another process that is just opening the file
# File systems of several machines: their processes do not see each other's locks.
_SHARED = ("nfs", "cifs", "smb", "lustre", "gpfs", "beegfs", "ceph", "glusterfs", "9p", "afs",
           "orangefs", "pvfs")  # fmt: skip
# A head page (mdb.c, version 1 of the format, 64 bits): page header, magic, version, address, size
# of the map, two databases of 48 bytes whose first number is the page size, last page, transaction.
_HEAD = struct.Struct("<16xIIQQ I44x 48x QQ")
_MAGIC, _FORMAT = 0xBEEFC0DE, 1
_PAGE_SIZES = tuple(2**n for n in range(9, 17))

# (process, folder): LMDB allows one of each; and which file it is, as another may take its place.
Transaction = TypeVar("Transaction")

_opened: dict[tuple[int, str], tuple[lmdb.Environment, int]] = {}


class Environment:
    """The file of a folder, and the transactions on it.

    Attributes:
        folder: where it is.
        writable: whether entries can be added.
    """

    def __init__(self, folder: Path, env: lmdb.Environment, *, writable: bool) -> None:
        self.folder, self.writable, self._env = folder, writable, env

    @classmethod
    def open(cls, folder: Path, size: int) -> Environment | None:
        """Opens a folder's file, and makes it where there is none.

        Args:
            folder: made if it does not exist.
            size: bytes that the file may grow to.

        Returns:
            None, after a warning that says why, where the folder cannot be used.
        """
        if network := _network(folder):
            log.warning(
                "the cache in %s is not used: it is on %s, a file system of several machines, "
                "whose processes would not see each other's locks. Name a folder on a disk of this "
                "machine with cache.folder=DIR or TMKE_CACHE.",
                folder, network,
            )  # fmt: skip
            return None
        reason = why_unwritable(folder) or _why_unwritable_file(folder)
        try:
            if reason:
                return cls._open_to_read(folder, reason)
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / OPENING, timeout=_WAIT):
                if problem := _why_unsound(folder, size):
                    log.warning(
                        "the cache in %s is emptied: %s. What was in it is computed again.",
                        folder, problem,
                    )  # fmt: skip
                    remove(folder)
                return cls(folder, _open(folder, size), writable=True)
        except (lmdb.Error, OSError, Timeout) as error:
            log.warning(
                "the cache in %s cannot be used (%s); this run goes without.", folder, error
            )
            return None

    @classmethod
    def _open_to_read(cls, folder: Path, reason: str) -> Environment | None:
        if not (folder / DATA).is_file():
            log.warning(
                "the cache cannot be written in %s (%s), and nothing is in it yet; this run goes "
                "without. Name another folder with cache.folder=DIR or TMKE_CACHE.",
                folder, reason,
            )  # fmt: skip
            return None
        if problem := _wrong_head(folder / DATA) or _cut(folder / DATA):
            log.warning(
                "the cache in %s is not used: %s, and the folder cannot be written (%s).",
                folder, problem, reason,
            )  # fmt: skip
            return None
        log.warning("the cache in %s is only read: it cannot be written (%s).", folder, reason)
        return cls(folder, _open(folder, None), writable=False)

    @contextmanager
    def reading(self) -> Iterator[lmdb.Transaction[memoryview]]:
        """A view of the file as it is now; its buffers are good inside the block alone."""
        with self._begun(lambda: self._env.begin(buffers=True)) as transaction:
            yield transaction

    @contextmanager
    def writing(self) -> Iterator[lmdb.Transaction[bytes]]:
        """Changes that are on the disk after the block, all of them or, after an error, none."""
        with self._begun(lambda: self._env.begin(write=True)) as transaction:
            yield transaction
        self._fill_up()

    def _begun(self, begin: Callable[[], Transaction]) -> Transaction:
        """A transaction, begun again where another run allows the file to be larger by now."""
        try:
            return begin()
        except lmdb.MapResizedError:
            self._adopt_size()
            return begin()

    def _fill_up(self) -> None:
        """Brings the file to its full length, where its last pages hold nothing."""
        if not _is_there(self.folder, self._env):
            raise FileNotFoundError(f"{DATA} was removed by another process")
        needed = (int(self._env.info()["last_pgno"]) + 1) * self.page
        if (self.folder / DATA).stat().st_size < needed:
            with self._env.begin(write=True):  # as long as nobody else writes
                _fill_up(self.folder / DATA)

    def _adopt_size(self) -> None:
        """Another run allows the file to be larger."""
        self._env.set_mapsize(0)

    def database(self, name: str) -> Any:
        """The handle of a named database; None where it is not there and cannot be made."""
        try:
            return self._env.open_db(name.encode(), create=self.writable)
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            return None

    @property
    def size(self) -> int:
        """Bytes that the file may grow to."""
        return int(self._env.info()["map_size"])

    @property
    def page(self) -> int:
        """Bytes of a page."""
        return int(self._env.stat()["psize"])


def _why_unsound(folder: Path, size: int) -> str:
    """Why a folder's file cannot be used, as part of a sentence; empty where it can."""
    file = folder / DATA
    if not file.is_file() or not file.stat().st_size:
        return ""  # nothing was written yet
    if problem := _wrong_head(file):
        return problem
    if not (problem := _cut(file)):
        return ""
    _fill_up(file)
    env = _open(folder, size)
    if _reads_whole(env):
        return ""
    close(folder)
    return problem


def _wrong_head(file: Path) -> str:
    """What is wrong with a file's beginning; empty where it speaks of pages as it should."""
    return "" if _heads(file) else f"{file.name} is no file of this cache, or its head is damaged"


def _cut(file: Path) -> str:
    """That a file ends before its last page, as part of a sentence; empty where it does not."""
    needed = _needed(file)
    # Asked for after the head was read: another process may be adding to it.
    length = file.stat().st_size
    return f"{file.name} is cut short ({length:,} of {needed:,} bytes)" if length < needed else ""


def _needed(file: Path) -> int:
    """Bytes up to the end of a file's last page."""
    page, last, _ = max(_heads(file), key=lambda head: head[2])
    return (last + 1) * page


def _heads(file: Path) -> list[tuple[int, int, int]]:
    """Page size, last page and transaction of both head pages; empty where they are damaged."""
    with file.open("rb") as content:
        begin = content.read(2 * max(_PAGE_SIZES))
    first = _head(begin, 0)
    second = _head(begin, first[0]) if first else None
    return [first, second] if first and second and first[0] == second[0] else []


def _fill_up(file: Path) -> None:
    """Zeros up to the end of the last page; who writes waits meanwhile."""
    if file.stat().st_size < (needed := _needed(file)):
        os.truncate(file, needed)


def _reads_whole(env: lmdb.Environment) -> bool:
    """Whether all entries of all databases are those that were written."""
    try:
        with env.begin(buffers=True) as transaction:
            names = [bytes(name) for name in transaction.cursor().iternext(values=False)]
        for name in names:
            database = env.open_db(name, create=False)
            with env.begin(database, buffers=True) as transaction:
                if not all(is_whole(bytes(k), v) for k, v in transaction.cursor()):
                    return False
    except lmdb.Error:
        return False
    return True


def opened_to_look(folder: Path, *, write: bool = False) -> Environment:
    """The file of a cache that is there, for commands that look at it.

    Raises:
        ConfigError: there is none, it is damaged, or it cannot be written and should be.
    """
    file = file_in(folder)
    if problem := _wrong_head(file) or _cut(file):
        raise ConfigError(
            f"{folder}: {problem}. The next run empties it, and so does `python -m caching clear`."
        )
    reason = why_unwritable(folder) or _why_unwritable_file(folder)
    if write and reason:
        raise ConfigError(f"the cache in {folder} cannot be written ({reason}).")
    return Environment(folder, _open(folder, None if reason else 0), writable=not reason)


def look(folder: Path) -> Environment | None:
    """The file of a cache that is there and can be read; None, and not a word, where none is."""
    try:
        return None if _network(folder) else opened_to_look(folder)
    except (ConfigError, lmdb.Error, OSError):
        return None


def file_in(folder: Path) -> Path:
    """The file of a cache that is there.

    Raises:
        ConfigError: there is none.
    """
    if not (folder / DATA).is_file():
        raise ConfigError(
            f"{folder} holds no cache ({DATA}); name its folder with --folder DIR or TMKE_CACHE."
        )
    return folder / DATA


def remove_all(folder: Path) -> None:
    """Removes a cache that is there, whole or damaged, and closes it in this process.

    Raises:
        ConfigError: it cannot be removed.
    """
    close(folder)
    try:
        with FileLock(folder / OPENING, timeout=_WAIT):
            remove(folder)
    except (OSError, Timeout) as error:
        raise ConfigError(f"the cache in {folder} cannot be removed ({error}).") from error


def remove(folder: Path) -> None:
    """Removes the cache's files from a folder; processes that have them open go on with theirs."""
    for name in (DATA, LOCK):
        (folder / name).unlink(missing_ok=True)


def close(folder: Path) -> None:
    """Closes the file of a folder, if this process has it open."""
    env, _ = _opened.pop(_name(folder), (None, 0))
    if env is not None:
        env.close()


def _name(folder: Path) -> tuple[int, str]:
    return os.getpid(), str(folder.resolve())


def _is_there(folder: Path, env: lmdb.Environment) -> bool:
    """Whether the file in a folder is the one that is open, which may have been removed since."""
    try:
        return (env, (folder / DATA).stat().st_ino) == _opened.get(_name(folder))
    except FileNotFoundError:
        return False


def _open(folder: Path, size: int | None) -> lmdb.Environment:
    """The environment of this process; `size` is None where it is only read."""
    env, _ = _opened.get(_name(folder), (None, 0))
    is_same = env is not None and bool(env.flags()["readonly"]) == (size is None)
    if env is not None and is_same and _is_there(folder, env):
        if size is not None and size > env.info()["map_size"]:
            env.set_mapsize(size)
        return env
    close(folder)
    if size is None:
        env = lmdb.open(str(folder), readonly=True, lock=False, max_dbs=_DATABASES)
    else:
        # Without `metasync` a machine that stops may lose the last transaction, and no other.
        env = lmdb.open(
            str(folder), map_size=size, max_dbs=_DATABASES, max_readers=_READERS, metasync=False
        )
        env.reader_check()  # readers that were killed
    _opened[_name(folder)] = env, (folder / DATA).stat().st_ino
    return env


def _head(content: bytes, offset: int) -> tuple[int, int, int] | None:
    """Page size, last page and transaction of a head page; None where it is none."""
    if len(content) < offset + _HEAD.size:
        return None
    magic, version, _, _, page, last, transaction = _HEAD.unpack_from(content, offset)
    if magic != _MAGIC or version != _FORMAT or page not in _PAGE_SIZES:
        return None
    return page, last, transaction


def _why_unwritable_file(folder: Path) -> str:
    """Why the files of a folder that is there cannot be written; empty where they can."""
    for file in (folder / DATA, folder / LOCK):
        if file.exists() and not os.access(file, os.W_OK):
            return f"{file.name} is read-only"
    return ""


def _network(folder: Path) -> str:
    """The kind of file system of several machines that a folder is on; empty for a disk's."""
    place = folder.absolute()
    with suppress(OSError, psutil.Error):
        mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(True)}
        for parent in (place, *place.parents):
            if parent in mounts:
                kind = mounts[parent].lower().removeprefix("fuse.")
                return kind if kind.startswith(_SHARED) else ""
    return ""
