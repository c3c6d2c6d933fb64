"""What is known of a base model's files since all of its weights were in memory.

A fingerprint needs every weight, and so does comparing what is stored below a layer with what the
model computes. Both are done by a run that reads the model whole, and noted here, by the place of
its files, for runs that read a part of it. A record is of the files as they were: names, sizes and
times of change. It stands in the cache's own file, and what it says of entries goes with them.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from caching.entries import KEY_BYTES, digest, is_whole, sealed
from caching.environment import Environment

_RECORDS = "records"  # name of the database


@dataclass(frozen=True)
class Record:
    """Of the weights in a folder, in one arithmetic.

    Attributes:
        files: digest of the folder's files.
        fingerprint: of all weights.
        scope: name of the scope whose entries this model reads.
        weights: how many numbers they are.
        compared: kinds of which this model has computed stored entries anew and found them equal.
    """

    files: str
    fingerprint: str
    scope: str
    weights: int
    compared: tuple[str, ...] = ()


def files_digest(folder: Path) -> str:
    """Of the names, sizes and times of change of all files in a folder."""
    stats = ((str(file.relative_to(folder)), file.stat()) for file in sorted(folder.rglob("*"))
             if file.is_file())  # fmt: skip
    parts = (f"{name} {stat.st_size} {stat.st_mtime_ns}" for name, stat in stats)
    return digest(*parts).hex()


def read(environment: Environment, key: bytes) -> Record | None:
    """The record under a key; None where there is none, or it is damaged."""
    return dict(_every(environment)).get(key)


def of_scope(environment: Environment, scope: str) -> dict[bytes, Record]:
    """The records of all models that read the entries of one scope."""
    return {key: record for key, record in _every(environment) if record.scope == scope}


def write(environment: Environment, key: bytes, record: Record) -> None:
    """Notes a record in the place of an earlier one."""
    _put(environment, {key: record})


def compared(environment: Environment, key: bytes, kinds: Collection[str]) -> None:
    """Notes of a record that entries of some kinds are what its model computes."""
    record = read(environment, key)
    if record is not None and not {*kinds} <= {*record.compared}:
        every = tuple(sorted({*record.compared, *kinds}))
        _put(environment, {key: replace(record, compared=every)})


def forget_compared(environment: Environment, scope: str) -> None:
    """Entries of a scope go: of those that will come nothing is known."""
    stale = {
        key: replace(record, compared=())
        for key, record in of_scope(environment, scope).items()
        if record.compared
    }
    if stale:
        _put(environment, stale)


def _every(environment: Environment) -> list[tuple[bytes, Record]]:
    database = environment.database(_RECORDS)
    if database is None:
        return []
    with environment.reading() as transaction:
        stored = [(bytes(key), bytes(value)) for key, value in transaction.cursor(database)]
    return [(key, _record(value)) for key, value in stored if is_whole(key, value)]


def _record(value: bytes) -> Record:
    said = json.loads(value[KEY_BYTES:])
    return Record(**{**said, "compared": tuple(said["compared"])})


def _put(environment: Environment, of: dict[bytes, Record]) -> None:
    database = environment.database(_RECORDS)
    with environment.writing() as transaction:
        for key, record in of.items():
            content = json.dumps(asdict(record)).encode()
            transaction.put(key, sealed(key, content), db=database)
