"""A cache on the disk: what a frozen base model makes of rows and pictures, computed once.

    value = compute(key)      only where no earlier batch, epoch, run or editor has done so

Entries of one base model under one arithmetic are a database of their own (`caching.scope`), in one
file for all (`caching.environment`). Each has a checksum; and since a fingerprint looks at a sample
of the weights, the first batch of a run computes some of what it reads anew and compares. What
fails costs time and never a run: a full disk ends the writing, a damaged entry counts as absent.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import lmdb

from caching import catalogue, records
from caching.entries import Tensors, as_bytes, as_tensors, relative_error
from caching.environment import Environment
from caching.scope import Scope

log = logging.getLogger(__name__)
Kind = Literal["pictures", "answers", "states"]
_COMMIT = 2**26  # bytes that are written in one transaction


@dataclass
class Counts:
    """What a run took from the cache and gave to it, of one kind.

    Attributes:
        hits: entries that were there.
        misses: entries that had to be computed.
        bytes_read: of the hits.
        bytes_written: of what is new.
    """

    hits: int = 0
    misses: int = 0
    bytes_read: int = 0
    bytes_written: int = 0


@dataclass
class Cache:
    """The entries of one base model; without an environment it holds nothing and takes nothing.

    Attributes:
        scope: whose entries they are; None where there are none.
        environment: the file.
        kinds: what is stored.
        counts: what came of it in this process.
        record: key of what is noted of the model's files (`caching.records`).
    """

    scope: Scope | None = None
    environment: Environment | None = None
    kinds: Collection[Kind] = ()
    counts: dict[Kind, Counts] = field(default_factory=dict)
    record: bytes | None = None
    _database: Any = None
    _trusted: set[Kind] = field(default_factory=set)
    _writes: bool = True
    _told: set[str] = field(default_factory=set)

    @classmethod
    def open(cls, folder: Path, size: int, scope: Scope, kinds: Collection[Kind]) -> Cache:
        """The cache in a folder; after a warning one that holds nothing, where it cannot be used.

        Args:
            folder: made if it does not exist.
            size: bytes that all its entries may take, those of other models too.
            scope: the base model.
            kinds: what is stored.
        """
        environment = Environment.open(folder, size)
        if environment is None:
            return cls()
        cache = cls(scope, environment, frozenset(kinds), _writes=environment.writable)
        with cache._going_on("opened"):
            cache._with_room(cache._begin)
        return cache

    def __reduce__(self) -> tuple[type[Cache], tuple[()]]:
        """For a copy or another process: one that holds nothing, as a copy's weights may change."""
        return Cache, ()

    @property
    def contents(self) -> str:
        """How much there is of this base model, as part of a sentence."""
        assert self.environment is not None
        name = self.scope.name if self.scope else ""
        size = 0
        with suppress(lmdb.MapFullError):  # not even the list of models has room
            of_models = catalogue.holdings(self.environment)
            size = next((one.size for one in of_models if one.name == name), 0)
        return f"{size / 1e6:,.1f} MB"

    def trust(self, kinds: Collection[str]) -> None:
        """Takes entries of some kinds as they are: an earlier run has compared them."""
        self._trusted |= {kind for kind in self.kinds if kind in kinds}

    def note(self, key: bytes, record: records.Record) -> None:
        """Notes what is known of the model's files, now that all weights were read.

        What an earlier run has compared stays noted, if it was of the same files.
        """
        self.record = key
        if self.environment is None or not self._writes:
            return
        with self._going_on("written"):
            earlier = records.read(self.environment, key)
            same = earlier is not None and replace(earlier, compared=()) == record
            if not same:
                records.write(self.environment, key, record)

    def holds(self, kind: Kind) -> bool:
        """Whether entries of a kind are looked for and stored at all."""
        return self.environment is not None and kind in self.kinds

    def through(
        self,
        kind: Kind,
        keys: Sequence[bytes],
        compute: Callable[[list[int]], Sequence[Tensors]],
    ) -> list[Tensors]:
        """The values of some keys: read where they are there, else computed and stored.

        The first hits of a run are computed besides and compared; where they differ by more than
        rounding, all entries of this base model go, and everything is computed.

        Args:
            kind: of the values.
            keys: what decides each, besides the base model; equal ones are computed once.
            compute: indices into `keys` -> their values, on any device.

        Returns:
            One for each key; on the CPU where it was read.
        """
        if not self.holds(kind):
            return list(compute(list(range(len(keys)))))
        number: dict[bytes, int] = {}
        for n, key in enumerate(keys):
            number.setdefault(key, n)
        stored = dict(zip(number, self.get(kind, list(number)), strict=True))
        sample = self._sample(kind, stored)
        missing = [key for key, value in stored.items() if value is None]
        computed = self._compute([*missing, *sample], number, compute)
        if sample and not self._agree(kind, sample, stored, computed):
            missing = list(number)
            rest = [key for key in missing if key not in computed]
            computed |= self._compute(rest, number, compute)
        self.put(kind, [(key, computed[key]) for key in missing])
        new = set(missing)
        return [computed[key] if key in new else stored[key] or {} for key in keys]

    def get(self, kind: Kind, keys: Sequence[bytes]) -> list[Tensors | None]:
        """What is stored under some keys, on the CPU and unchecked but for damage; else None."""
        values: list[Tensors | None] = [None] * len(keys)
        if not self.holds(kind):
            return values
        counts = self.counts.setdefault(kind, Counts())
        assert self.environment is not None
        with self._going_on("read"), self.environment.reading() as transaction:
            for number, key in enumerate(keys if self._database is not None else ()):
                full = self._key(kind, key)
                stored = transaction.get(full, db=self._database)
                if stored is None:
                    continue
                values[number] = as_tensors(full, stored)
                if values[number] is None:
                    self._tell(
                        "damaged",
                        "an entry of the cache in %s is damaged, and is computed again; its disk "
                        "may be failing.",
                        self.environment.folder,
                    )
                else:
                    counts.bytes_read += len(stored)
        counts.hits += sum(value is not None for value in values)
        counts.misses += sum(value is None for value in values)
        return values

    def put(self, kind: Kind, entries: Sequence[tuple[bytes, Tensors]]) -> None:
        """Stores values under their keys; what was there gives way.

        Where the cache is full, models that were used longest ago make room; where that is not
        enough, or the disk is full, nothing more is stored.
        """
        counts = self.counts.setdefault(kind, Counts())
        waiting: list[tuple[bytes, bytes]] = []
        size = 0
        for number, (key, tensors) in enumerate(entries):
            if not (self._writes and self.holds(kind)):
                return
            full = self._key(kind, key)
            content = as_bytes(full, tensors)
            waiting.append((full, content))
            size += len(content)
            if size >= _COMMIT or number == len(entries) - 1:
                counts.bytes_written += size if self._write(waiting) else 0
                waiting, size = [], 0

    def drop(self, reason: str) -> None:
        """Removes all entries of this base model, and says why."""
        if self.environment is None or self.scope is None:
            return
        log.warning(
            "the cache in %s is emptied for this base model: %s. They are computed again.",
            self.environment.folder, reason,
        )  # fmt: skip
        if not self._writes:
            self.kinds = ()  # nothing can be removed, and nothing there is of use
            return
        with self._going_on("emptied"):
            catalogue.drop(self.environment, self.scope.name)

    def _sample(self, kind: Kind, stored: Mapping[bytes, Tensors | None]) -> list[bytes]:
        """Keys whose values are computed although they are there: none once that was done."""
        hits = [key for key, value in stored.items() if value is not None]
        return [] if kind in self._trusted else list(dict.fromkeys((*hits[:1], *hits[-1:])))

    def _agree(
        self,
        kind: Kind,
        sample: Sequence[bytes],
        stored: Mapping[bytes, Tensors | None],
        computed: Mapping[bytes, Tensors],
    ) -> bool:
        """Whether what is stored is what the model computes; if not, all of it goes."""
        assert self.scope is not None
        self._trusted.add(kind)
        error = max(relative_error(stored[key] or {}, computed[key]) for key in sample)
        if error <= self.scope.rounding:
            if self.record is not None and self.environment is not None and self._writes:
                with self._going_on("written"):
                    records.compared(self.environment, self.record, [kind])
            return True
        self.drop(f"{kind} in it differ by {error:.1e} from what the model computes now, which is "
                  f"no rounding ({self.scope.rounding:.0e})")  # fmt: skip
        return False

    @staticmethod
    def _compute(
        keys: Sequence[bytes],
        number: Mapping[bytes, int],
        compute: Callable[[list[int]], Sequence[Tensors]],
    ) -> dict[bytes, Tensors]:
        if not keys:
            return {}
        return dict(zip(keys, compute([number[key] for key in keys]), strict=True))

    def _key(self, kind: Kind, key: bytes) -> bytes:
        assert self.scope is not None
        return self.scope.key(kind, key)

    def _write(self, entries: Sequence[tuple[bytes, bytes]]) -> bool:
        """Writes entries in one transaction; whether that was done."""
        assert self.environment is not None
        environment = self.environment

        def write() -> None:
            with environment.writing() as transaction:
                for key, content in entries:
                    transaction.put(key, content, db=self._database)

        with self._going_on("written"):
            return self._with_room(write)
        return False

    def _begin(self) -> None:
        """Finds the entries of this base model, and notes that it is used."""
        assert self.environment is not None
        assert self.scope is not None
        self._database = catalogue.entries_of(self.environment, self.scope.name)
        if self.environment.writable:
            catalogue.note(self.environment, self.scope)

    def _with_room(self, write: Callable[[], None]) -> bool:
        """Writes, if need be in the place of other models' entries; whether there was room."""
        assert self.environment is not None
        assert self.scope is not None
        while True:
            try:
                write()
            except lmdb.MapFullError:
                with suppress(lmdb.MapFullError):  # so small that not even a removal has room
                    if catalogue.drop_oldest(self.environment, besides=self.scope.name):
                        continue
                self._writes = False
                self._tell(
                    "full",
                    "the cache in %s is full (%s bytes); nothing more is stored. Allow it more "
                    "with cache.gigabytes=N, or empty it with `python -m caching clear`.",
                    self.environment.folder, f"{self.environment.size:,}",
                )  # fmt: skip
                return False
            return True

    @contextmanager
    def _going_on(self, done: str) -> Iterator[None]:
        """A run goes on without what could not be read or written, and says so once."""
        try:
            yield
        except (lmdb.Error, OSError) as error:
            assert self.environment is not None
            self._tell(
                done,
                "the cache in %s cannot be %s (%s); this run goes on without.",
                self.environment.folder, done, error,
            )  # fmt: skip
            self._writes = False
            if done != "written":
                self.kinds = ()

    def _tell(self, what: str, message: str, *arguments: object) -> None:
        """A warning of each kind once."""
        if what not in self._told:
            self._told.add(what)
            log.warning(message, *arguments)

    def report(self) -> dict[str, dict[str, int]]:
        """Kind -> what this process took and gave, for summary.json; empty where nothing was."""
        return {kind: asdict(counts) for kind, counts in self.counts.items()}
