"""Pixels that processes share: what one keeps all read, and the end of one harms no other."""

from __future__ import annotations

import errno
import multiprocessing
import os
import pickle
import signal
import threading
import time
from multiprocessing.queues import SimpleQueue
from typing import Any

import pytest
import torch

from datamodules import pixel_slab
from datamodules.pixel_slab import KEY_BYTES, PixelSlab

LIKE = torch.zeros(3, 5, 7)
SLOT = LIKE.nbytes + KEY_BYTES
FORK = multiprocessing.get_context("fork")
needs_sharing = pytest.mark.skipif(not pixel_slab._CAN_SHARE, reason="no memfd_create here")


def key(number: int) -> bytes:
    return number.to_bytes(KEY_BYTES, "big")


def picture(number: int) -> torch.Tensor:
    return torch.full_like(LIKE, number)


def holds(slab: PixelSlab, numbers: Any) -> bool:
    """Whether the pictures of these numbers are there, and those numbers' pixels."""
    pixels = [slab.find(key(number)) for number in numbers]
    pairs = zip(pixels, numbers, strict=True)
    return all(pixel is not None and torch.equal(pixel, picture(n)) for pixel, n in pairs)


@pytest.fixture(params=[pytest.param(True, marks=needs_sharing), False], ids=["shared", "private"])
def slab(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PixelSlab:
    monkeypatch.setattr(pixel_slab, "_CAN_SHARE", request.param)
    slab = PixelSlab(LIKE, 4 * SLOT + SLOT - 1)
    assert slab.is_shared == request.param
    return slab


def test_the_first_pictures_are_kept_and_stay(slab: PixelSlab) -> None:
    assert slab.find(key(1)) is None
    for number in range(1, 7):
        slab.keep(key(number), picture(number))
        slab.keep(key(1), picture(9))  # which is there
    assert len(slab) == 4
    assert slab.is_full
    assert holds(slab, range(1, 5))
    assert slab.find(key(5)) is None


def test_pixels_of_another_shape_or_type_are_not_kept(slab: PixelSlab) -> None:
    slab.keep(key(1), torch.zeros(3, 7, 5))
    slab.keep(key(2), LIKE.half())
    assert len(slab) == 0
    slab.keep(key(3), picture(3).transpose(0, 0).flip(0))
    assert holds(slab, [3])


def test_pixels_are_read_in_place(slab: PixelSlab) -> None:
    slab.keep(key(1), picture(1))
    one, again = slab.find(key(1)), slab.find(key(1))
    assert one is not None
    assert again is not None
    assert one.data_ptr() == again.data_ptr()
    del slab
    assert torch.equal(one, picture(1)), "the memory stays as long as somebody reads it"


def test_where_nothing_is_shared_a_forked_process_has_a_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixel_slab, "_CAN_SHARE", False)
    slab = PixelSlab(LIKE, 4 * SLOT)
    slab.keep(key(1), picture(1))
    child = FORK.Process(target=slab.keep, args=(key(2), picture(2)))
    child.start()
    child.join()
    assert child.exitcode == 0
    assert slab.find(key(2)) is None
    assert holds(slab, [1])


def keep_all(slab: PixelSlab, numbers: range, seen: SimpleQueue[bool]) -> None:
    seen.put(holds(slab, [0]))
    for number in numbers:
        slab.keep(key(number), picture(number))
    seen.put(holds(slab, numbers))


@needs_sharing
def test_what_a_process_keeps_the_others_read() -> None:
    """Overlapping parts, at the same time; nothing twice, nothing of another's.

    `test_workers` has processes that are spawned.
    """
    slab = PixelSlab(LIKE, 100 * SLOT)
    slab.keep(key(0), picture(0))
    parts = [range(1 + 20 * part, 41 + 20 * part) for part in range(3)]
    seen: SimpleQueue[bool] = FORK.SimpleQueue()
    children = [FORK.Process(target=keep_all, args=(slab, part, seen)) for part in parts]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [seen.get() for _ in range(6)] == [True] * 6
    assert len(slab) == parts[-1].stop
    assert holds(slab, range(parts[-1].stop))


def keep_slowly(slab: PixelSlab, inside: Any) -> None:
    """Keeps picture 5, and takes its time about it."""

    def take(slot: int) -> bool:
        inside.set()
        time.sleep(0.1)
        return True

    slab._take = take  # type: ignore[method-assign]
    slab.keep(key(5), picture(5))


@needs_sharing
def test_two_processes_do_not_take_the_same_slot() -> None:
    slab, inside = PixelSlab(LIKE, 4 * SLOT), FORK.Event()
    child = FORK.Process(target=keep_slowly, args=(slab, inside))
    child.start()
    assert inside.wait(10)
    slab.keep(key(6), picture(6))
    child.join()
    assert len(slab) == 2
    assert holds(slab, [5, 6])


def die_while_keeping(slab: PixelSlab) -> None:
    """Ends where the pixels are half there, with the lock in hand."""

    def take(slot: int) -> bool:
        slab._pixels[slot, 0] = 77
        os.kill(os.getpid(), signal.SIGKILL)
        return True

    slab._take = take  # type: ignore[method-assign]
    slab.keep(key(5), picture(5))


@needs_sharing
def test_a_process_that_is_killed_leaves_neither_its_lock_nor_half_a_picture() -> None:
    slab = PixelSlab(LIKE, 4 * SLOT)
    child = FORK.Process(target=die_while_keeping, args=(slab,))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    assert slab.find(key(5)) is None
    slab.keep(key(6), picture(6))
    assert len(slab) == 1
    assert holds(slab, [6])


@needs_sharing
def test_a_machine_without_memory_keeps_what_there_is_room_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slab = PixelSlab(LIKE, 4 * SLOT)
    slab.keep(key(1), picture(1))

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    slab.keep(key(2), picture(2))
    assert slab.is_full
    assert len(slab) == 1
    assert holds(slab, [1])
    with pytest.raises(OSError, match="No space"):
        PixelSlab(LIKE, SLOT)


@needs_sharing
def test_memory_is_taken_as_pictures_come(monkeypatch: pytest.MonkeyPatch) -> None:
    large = torch.ones(1_000_000)
    slab = PixelSlab(large, 2**30)
    assert slab._file is not None
    for number in range(3):
        slab.keep(key(number), large)
    taken = os.fstat(slab._file).st_blocks * 512
    assert 3 * large.nbytes <= taken < 4 * large.nbytes


@needs_sharing
def test_the_memory_is_given_back() -> None:
    slab = PixelSlab(LIKE, 4 * SLOT)
    file = slab._file
    assert file is not None
    del slab
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(file)


def test_threads_keep_pictures_side_by_side(slab: PixelSlab) -> None:
    threads = [
        threading.Thread(target=slab.keep, args=(key(number % 4), picture(number % 4)))
        for number in range(32)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(slab) == 4
    assert holds(slab, range(4))


def test_pixels_do_not_travel_in_files(slab: PixelSlab) -> None:
    with pytest.raises(TypeError, match="when it is started"):
        pickle.dumps(slab)
