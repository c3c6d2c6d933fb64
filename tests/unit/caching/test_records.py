"""What is noted of a model's files, and when it is believed no more."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from caching import records
from caching.catalogue import drop
from caching.records import Record, files_digest
from tests.unit.caching.test_store import Model, opened, scope

KEY = b"files"


def record(name: str = "a") -> Record:
    return Record("digest", "fingerprint", scope(name).name, 7)


def test_what_a_run_compared_is_noted_of_its_files(tmp_path: Path) -> None:
    first = opened(tmp_path)
    first.note(KEY, record())
    keys = [b"1", b"2"]
    first.through("states", keys, Model(keys))
    assert first.environment is not None
    assert records.read(first.environment, KEY) == record()  # nothing was there to compare
    second = opened(tmp_path)
    second.note(KEY, record())
    second.through("states", keys, Model(keys))
    known = records.read(first.environment, KEY)
    assert known == replace(record(), compared=("states",))
    third, model = opened(tmp_path), Model(keys)
    third.trust(known.compared)
    third.through("states", keys, model)
    assert model.asked == []
    third.note(KEY, record())  # the same files once more
    assert records.read(first.environment, KEY) == known
    third.note(KEY, replace(record(), files="others"))
    assert records.read(first.environment, KEY) == replace(record(), files="others")


@pytest.mark.parametrize("how", ["differ", "drop"])
def test_it_goes_with_the_entries(tmp_path: Path, how: str) -> None:
    keys, other = [b"1", b"2"], opened(tmp_path)
    environment = other.environment
    assert environment is not None
    other.through("states", keys, Model(keys))
    records.write(environment, KEY, replace(record(), compared=("states",)))
    records.write(environment, b"b", replace(record("b"), compared=("states",)))
    if how == "drop":
        drop(environment, record().scope)
    else:
        opened(tmp_path).through("states", keys, Model(keys, add=1))
    assert records.read(environment, KEY) == record()
    assert records.read(environment, b"b") == replace(record("b"), compared=("states",))


def test_a_damaged_record_is_none(tmp_path: Path) -> None:
    environment = opened(tmp_path).environment
    assert environment is not None
    records.write(environment, KEY, record())
    database = environment.database("records")
    with environment.writing() as transaction:
        content = bytes(transaction.get(KEY, db=database))
        transaction.put(KEY, content.replace(b"fingerprint", b"fingerprimt"), db=database)
    assert records.read(environment, KEY) is None
    assert records.of_scope(environment, record().scope) == {}


def test_files_are_told_apart_by_name_size_and_time(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    os.utime(file, ns=(0, 1))
    seen = [files_digest(tmp_path)]
    assert files_digest(tmp_path) == seen[0]
    os.utime(file, ns=(0, 2))
    seen.append(files_digest(tmp_path))
    file.write_bytes(b"longer weights")
    os.utime(file, ns=(0, 2))
    seen.append(files_digest(tmp_path))
    file.rename(tmp_path / "other.safetensors")
    seen.append(files_digest(tmp_path))
    assert len(set(seen)) == 4
