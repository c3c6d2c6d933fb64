"""The cache on the disk: what is read is what was written, and nothing else ever."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from caching.entries import Tensors
from caching.scope import Scope
from caching.store import Cache, Counts, Kind

SIZE = 2**22
KINDS: tuple[Kind, ...] = ("pictures", "answers", "states")


def scope(name: str = "a", dtype: torch.dtype = torch.float32) -> Scope:
    return Scope(name, {"fingerprint": name, "device": "cpu"}, dtype)


def opened(folder: Path, name: str = "a", size: int = SIZE) -> Cache:
    return Cache.open(folder, size, scope(name), KINDS)


def value(number: float, length: int = 100) -> dict[str, torch.Tensor]:
    return {"hidden": torch.full((length,), float(number)), "ids": torch.arange(3)}


class Model:
    """Computes values of keys that are numbers, and notes which."""

    def __init__(self, keys: Sequence[bytes], add: float = 0) -> None:
        self.keys, self.add, self.asked = keys, add, list[int]()

    def __call__(self, numbers: list[int]) -> list[Tensors]:
        self.asked += numbers
        return [value(int(self.keys[number]) + self.add) for number in numbers]


def same(one: Tensors, other: Tensors) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64])
def test_what_was_written_is_read(tmp_path: Path, dtype: torch.dtype) -> None:
    cache = opened(tmp_path)
    written = {"x": torch.randn(3, 4).mul(9).to(dtype), "empty": torch.zeros(0, 5)}
    cache.put("states", [(b"key", written)])
    read, absent = opened(tmp_path).get("states", [b"key", b"other"])
    assert absent is None
    assert read is not None
    assert same(read, written)
    assert {name: t.dtype for name, t in read.items()} == {"x": dtype, "empty": torch.float32}


def test_keys_kinds_models_and_mixed_precision_are_told_apart(tmp_path: Path) -> None:
    opened(tmp_path).put("states", [(b"key", value(1))])
    assert opened(tmp_path).get("answers", [b"key"]) == [None]
    assert opened(tmp_path, "b").get("states", [b"key"]) == [None]
    with torch.autocast("cpu", torch.bfloat16):
        assert opened(tmp_path).get("states", [b"key"]) == [None]
    assert opened(tmp_path).get("states", [b"key"]) != [None]


def test_only_what_is_not_there_is_computed(tmp_path: Path) -> None:
    keys = [b"1", b"2", b"1", b"3"]
    first = Model(keys)
    got = opened(tmp_path).through("states", keys, first)
    assert first.asked == [0, 1, 3]
    assert all(same(v, value(int(k))) for v, k in zip(got, keys, strict=True))
    cache, keys = opened(tmp_path), [b"3", b"4", b"2", b"1"]
    second = Model(keys)
    got = cache.through("states", keys, second)
    assert sorted(second.asked) == [0, 1, 3]  # the new one, and a sample of the others
    assert all(same(v, value(int(k))) for v, k in zip(got, keys, strict=True))
    third = Model(keys)
    cache.through("states", keys, third)
    assert third.asked == []
    assert cache.counts["states"] == Counts(7, 1, *sizes(cache))


def sizes(cache: Cache) -> tuple[int, int]:
    counts = cache.counts["states"]
    assert counts.bytes_read == 7 * counts.bytes_written
    return counts.bytes_read, counts.bytes_written


def test_a_model_that_computes_something_else_is_never_answered_from_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [b"1", b"2", b"3", b"4"]
    opened(tmp_path).through("states", keys, Model(keys))
    moved = Model(keys, add=0.01)
    cache = opened(tmp_path)
    got = cache.through("states", keys, moved)
    assert all(same(v, value(int(k) + 0.01)) for v, k in zip(got, keys, strict=True))
    assert "emptied for this base model" in caplog.text
    read = opened(tmp_path).get("states", keys)
    assert all(v and same(v, value(int(k) + 0.01)) for v, k in zip(read, keys, strict=True))


def test_rounding_is_no_difference(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    keys = [b"1", b"2"]
    opened(tmp_path).through("states", keys, Model(keys))
    got = opened(tmp_path).through("states", keys, Model(keys, add=1e-5))
    assert same(got[0], value(1))
    assert not caplog.records


@pytest.mark.parametrize(
    ("dtype", "facts", "error"),
    [
        (torch.float32, {}, 1e-4),
        (torch.float64, {"matmul": "highest", "quantised": "None"}, 1e-8),
        (torch.bfloat16, {}, 5e-2),
        (torch.float32, {"matmul": "high"}, 1e-2),
        (torch.float32, {"matmul": "medium"}, 5e-2),
        (torch.float32, {"quantised": "bitsandbytes"}, 5e-2),
    ],
)
def test_rounding_is_that_of_the_fewest_digits(
    dtype: torch.dtype, facts: dict[str, str], error: float
) -> None:
    one = Scope("a", facts, dtype)
    assert one.rounding == error
    assert one.is_exact == (error <= 1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        assert one.rounding == 5e-2
        assert not one.is_exact


def test_without_a_cache_everything_is_computed() -> None:
    model = Model([b"1", b"1"])
    assert len(Cache().through("states", model.keys, model)) == 2
    assert model.asked == [0, 1]


def test_when_it_is_full_the_model_used_longest_ago_goes_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    large = value(1, 2**16)  # 256 KiB
    for name in ("a", "b"):
        opened(tmp_path, name).put("states", [(b"%d" % n, large) for n in range(6)])
    third = opened(tmp_path, "c")
    for number in range(8):
        third.put("states", [(b"%d" % number, large)])
    assert opened(tmp_path, "a").get("states", [b"0"]) == [None]
    assert opened(tmp_path, "b").get("states", [b"0"]) != [None]
    assert not caplog.records
    for number in range(8, 30):
        third.put("states", [(b"%d" % number, large)])
    assert opened(tmp_path, "b").get("states", [b"0"]) == [None]
    assert [record.message.split("; ")[1][:22] for record in caplog.records] == [
        "nothing more is stored"
    ]
    assert "cache.gigabytes=N" in caplog.text
    assert third.get("states", [b"7"]) != [None]  # what is there is still read
    assert (tmp_path / "data.mdb").stat().st_size <= SIZE


def test_a_bound_that_no_entry_fits_in_is_told_with_its_key(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = Model([b"1"])
    for _ in range(2):
        cache = opened(tmp_path, size=20_000)
        assert cache.contents == "0.0 MB"
        cache.through("states", model.keys, model)
    assert model.asked == [0, 0]
    assert [record.message.count("cache.gigabytes=N") for record in caplog.records] == [1, 1]
