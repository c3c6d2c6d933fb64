"""Which base models a cache's file holds entries of, and which of them go when it is full."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from caching.entries import KEY_BYTES, is_whole, sealed
from caching.environment import Environment
from caching.records import forget_compared
from caching.scope import Scope

_SCOPES, _ENTRIES = "scopes", "entries-"  # names of databases


@dataclass(frozen=True)
class Holding:
    """What a cache's file holds of one base model.

    Attributes:
        name: of its scope.
        label: how its user called it.
        facts: what decides its numbers.
        used: when a run last opened it, in seconds since 1970.
        entries: how many there are.
        size: bytes on the disk.
    """

    name: str
    label: str
    facts: dict[str, str]
    used: float
    entries: int
    size: int


def entries_of(environment: Environment, name: str) -> Any:
    """The database of a scope's entries; None where it is not there and cannot be made."""
    return environment.database(f"{_ENTRIES}{name}")


def note(environment: Environment, scope: Scope) -> None:
    """Notes that a base model is used now."""
    scopes, key = environment.database(_SCOPES), scope.name.encode()
    noted = {"label": scope.label, "facts": dict(scope.facts), "used": time.time()}
    with environment.writing() as transaction:
        transaction.put(key, sealed(key, json.dumps(noted).encode()), db=scopes)


def holdings(environment: Environment) -> list[Holding]:
    """What is there, by base model, last used first; models of which nothing is left are not."""
    scopes = environment.database(_SCOPES)
    if scopes is None:
        return []
    with environment.reading() as transaction:
        noted = [(bytes(key), bytes(value)) for key, value in transaction.cursor(scopes)]
    found = [_holding(environment, key, value) for key, value in noted if is_whole(key, value)]
    return sorted((one for one in found if one.entries), key=lambda one: -one.used)


def drop(environment: Environment, name: str) -> None:
    """Removes all entries of a scope; other processes' handles of it stay good."""
    database, scopes, key = (
        entries_of(environment, name),
        environment.database(_SCOPES),
        name.encode(),
    )
    forget_compared(environment, name)  # first: killed in between, too little is believed
    with environment.writing() as transaction:
        transaction.drop(database, delete=False)
    # LMDB gives pages away again in the transaction after the next one.
    with environment.writing() as transaction:
        transaction.put(key, bytes(transaction.get(key, b"", scopes)), db=scopes)


def drop_oldest(environment: Environment, *, besides: str) -> bool:
    """Removes the entries of the base model that was used longest ago; whether there was one.

    Args:
        environment: the file.
        besides: name of the scope whose entries stay.
    """
    others = [one for one in holdings(environment) if one.name != besides]
    if not others:
        return False
    drop(environment, others[-1].name)
    return True


def _holding(environment: Environment, key: bytes, value: bytes) -> Holding:
    database, noted = entries_of(environment, key.decode()), json.loads(value[KEY_BYTES:])
    stat: Mapping[str, Any] = {}
    if database is not None:
        with environment.reading() as transaction:
            stat = transaction.stat(database)
    pages = sum(stat.get(f"{kind}_pages", 0) for kind in ("branch", "leaf", "overflow"))
    return Holding(
        key.decode(), noted["label"], noted["facts"], noted["used"], stat.get("entries", 0),
        pages * environment.page,
    )  # fmt: skip
