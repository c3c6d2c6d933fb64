"""Disks that fail under the cache, and processes that are killed: time is lost, nothing else."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from caching import environment
from caching.__main__ import main
from caching.environment import DATA, close
from caching.store import Cache
from errors import USER_ERROR
from tests.disks import disk_in_memory, files_up_to
from tests.unit.caching.test_store import KINDS, SIZE, Model, opened, same, scope, value

KEYS = [b"%d" % number for number in range(1, 9)]
LARGE = 2**14  # numbers in a value: 64 KiB
FORK = multiprocessing.get_context("fork")


def filled(folder: Path, name: str = "a") -> Path:
    opened(folder, name).put("states", [(key, value(int(key), LARGE)) for key in KEYS])
    close(folder)
    return folder / DATA


def is_right(folder: Path) -> bool:
    """Whether whatever is read is what was written, and something is."""
    read = opened(folder).get("states", KEYS)
    found = [(key, one) for key, one in zip(KEYS, read, strict=True) if one is not None]
    return bool(found) and all(same(one, value(int(key), LARGE)) for key, one in found)


@pytest.mark.parametrize("left", [0.3, 0.9, 10, 5000])
def test_a_file_that_was_cut_is_emptied_before_it_is_mapped(
    tmp_path: Path, left: float, caplog: pytest.LogCaptureFixture
) -> None:
    file = filled(tmp_path)
    os.truncate(file, int(left * file.stat().st_size) if left < 1 else int(left))
    cache = opened(tmp_path)
    assert "is emptied" in caplog.text
    assert cache.get("states", KEYS) == [None] * len(KEYS)
    cache.put("states", [(key, value(int(key), LARGE)) for key in KEYS])
    assert is_right(tmp_path)


def test_pages_that_hold_nothing_may_lie_behind_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As LMDB leaves them: a transaction that takes pages and gives them back writes none."""
    filled(tmp_path)
    cache = opened(tmp_path)
    assert cache.environment is not None
    entries = cache._database
    with cache.environment._env.begin(write=True) as transaction:  # not brought to full length
        transaction.put(b"large", bytes(2**20), db=entries)
        transaction.delete(b"large", db=entries)
    close(tmp_path)
    assert environment._cut(tmp_path / DATA)
    assert is_right(tmp_path)
    assert not caplog.records


def test_a_file_of_something_else_is_no_cache(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / DATA).write_bytes(b"something else" * 9999)
    opened(tmp_path).put("states", [(key, value(int(key), LARGE)) for key in KEYS])
    assert "is no file of this cache" in caplog.text
    assert is_right(tmp_path)


def test_a_damaged_entry_is_computed_again_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = filled(tmp_path)
    content = bytearray(file.read_bytes())
    for key in KEYS[:2]:  # numbers in the middle of two values
        place = content.find(value(int(key), LARGE)["hidden"][:5000].numpy().tobytes())
        content[place + 9999] ^= 1
    file.write_bytes(content)
    model, cache = Model(KEYS), opened(tmp_path)
    cache._trusted.add("states")
    assert all(same(*pair) for pair in zip(cache.through("states", KEYS, long(model)), right(),
                                           strict=True))  # fmt: skip
    assert sorted(model.asked) == [0, 1]
    assert [record.message.count("is damaged") for record in caplog.records] == [1]
    assert cache.get("states", KEYS[:1]) != [None]  # and it is whole again


def long(model: Model) -> Any:
    def compute(numbers: list[int]) -> list[Any]:
        model.asked += numbers
        return [value(int(model.keys[number]), LARGE) for number in numbers]

    return compute


def right() -> list[Any]:
    return [value(int(key), LARGE) for key in KEYS]


def test_a_disk_that_fills_ends_the_writing_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened(tmp_path)
    with files_up_to(2**18):
        for _ in range(2):
            got = cache.through("states", KEYS, long(Model(KEYS)))
            assert all(same(*pair) for pair in zip(got, right(), strict=True))
    assert [record.message.split(" (")[0][-17:] for record in caplog.records] == [
        "cannot be written"
    ]
    close(tmp_path)
    opened(tmp_path).put("states", [(key, value(int(key), LARGE)) for key in KEYS])
    assert is_right(tmp_path)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Any]:
    with disk_in_memory(tmp_path / "disk") as mount:
        yield mount


def test_a_small_disk_is_filled_and_what_is_there_is_read(
    disk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk("size=256k")
    cache = opened(folder)
    for key in KEYS:
        cache.put("states", [(key, value(int(key), LARGE))])
    assert "No space left on device" in caplog.text
    close(folder)
    assert is_right(folder)
    close(folder)


def test_a_read_only_folder_is_read(disk: Any, caplog: pytest.LogCaptureFixture) -> None:
    folder = disk("size=16m")
    filled(folder)
    disk("remount,ro")
    model, cache = Model([*KEYS, b"9"]), opened(folder)
    got = cache.through("states", model.keys, long(model))
    assert all(same(*pair) for pair in zip(got, [*right(), value(9, LARGE)], strict=True))
    assert sorted(model.asked) == [0, 7, 8]  # the sample, and what is not there
    assert ["only read" in record.message for record in caplog.records] == [True]
    close(folder)


def test_an_empty_read_only_folder_is_gone_without(
    disk: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = disk("ro")
    cache = Cache.open(folder / "new", SIZE, scope(), KINDS)
    assert not cache.holds("states")
    assert "this run goes without" in caplog.text


def test_file_systems_of_several_machines_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Mount:
        mountpoint, fstype = str(tmp_path), "nfs4"

    monkeypatch.setattr(environment.psutil, "disk_partitions", lambda _: [Mount])
    assert not opened(tmp_path / "folder").holds("states")
    assert "nfs4" in caplog.text
    assert list(tmp_path.iterdir()) == []


def test_another_run_may_allow_more(tmp_path: Path) -> None:
    """A process learns that the file has grown beyond what it was allowed."""
    begin = FORK.Event()
    other = FORK.Process(target=grow, args=(tmp_path, begin))
    other.start()
    small = opened(tmp_path, size=2**20)
    begin.set()
    other.join(60)
    assert small.get("states", [b"40"]) != [None]


def grow(folder: Path, begin: Any) -> None:
    begin.wait(60)
    cache = opened(folder, size=2**23)
    cache.put("states", [(b"%d" % number, value(number, LARGE)) for number in range(50)])


def write_for_ever(folder: Path, first: int) -> None:
    """Writes values of the numbers from `first` on, and of all that another one writes too."""
    cache = opened(folder, size=2**27)
    for number in range(first, 10**6):
        cache.put("states", [(key, value(int(key), LARGE)) for key in KEYS])
        cache.put("states", [(b"%d" % number, value(number, LARGE))])


def test_two_that_write_at_once_and_are_killed_leave_whole_entries(tmp_path: Path) -> None:
    writers = [FORK.Process(target=write_for_ever, args=(tmp_path, 10**n)) for n in (3, 4)]
    for writer in writers:
        writer.start()
    waited = time.monotonic() + 60
    file = tmp_path / DATA
    while not (file.is_file() and file.stat().st_size > 2**21) and time.monotonic() < waited:
        time.sleep(0.01)
    for writer in writers:
        assert writer.pid is not None
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
    assert is_right(tmp_path)
    cache = opened(tmp_path)
    read = cache.get("states", [b"1000", b"10000"])
    assert all(one is not None for one in read)  # of both
    cache.put("states", [(b"after", value(1))])
    assert cache.get("states", [b"after"]) != [None]


def test_commands_say_what_a_cut_cache_is_and_remove_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = filled(tmp_path)
    os.truncate(file, file.stat().st_size // 2)
    assert main(["list", "--folder", str(tmp_path)]) == USER_ERROR
    assert "is cut short" in capsys.readouterr().err
    assert main(["clear", "--folder", str(tmp_path)]) == 0
    assert not file.exists()


def test_a_later_job_of_a_process_may_allow_more(tmp_path: Path) -> None:
    filled(tmp_path)
    first = opened(tmp_path, size=2**20)
    second = opened(tmp_path, size=2**23)
    second.put("states", [(b"%d" % number, value(number, LARGE)) for number in range(50)])
    assert first.get("states", [b"40"]) != [None]


def test_a_file_that_another_process_removed_is_made_anew_by_the_next_job(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path)
    first = opened(tmp_path)
    removed = FORK.Process(target=main, args=(["clear", "--folder", str(tmp_path)],))
    removed.start()
    removed.join(60)
    made = filled_by_another(tmp_path)
    first.put("states", [(b"new", value(1))])
    assert "was removed by another process" in caplog.text
    assert (tmp_path / DATA).read_bytes() == made
    second = opened(tmp_path)
    assert is_right(tmp_path)
    second.put("states", [(b"new", value(1))])
    close(tmp_path)
    assert opened(tmp_path).get("states", [b"new"]) != [None]


def filled_by_another(folder: Path) -> bytes:
    other = FORK.Process(target=filled, args=(folder,))
    other.start()
    other.join(60)
    return (folder / DATA).read_bytes()
