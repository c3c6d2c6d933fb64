"""Pixels that the processes of a run keep together: equal slots in one piece of memory.

    count | keys, 16 bytes each | pixels, one slot each

What is kept stays, so it is read in place and without a lock. Once all slots are taken nothing more
is kept: an epoch shows each picture once, in a new order, and a store of the latest ones has lost
most of them when their turn comes again. With room for half of the pictures it has 15 % of what it
is asked for, and this one 50 %.

A process may be killed at any moment: the kernel takes its lock back (`lockf`), and a picture
counts when all of it is there. Memory is taken slot by slot (`posix_fallocate`), so that a machine
which has no more of it says so: to write into a page that cannot be had would end the process.
"""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import context, reduction
from typing import Any

import numpy as np
import torch
from torch import Tensor

KEY_BYTES = 16
_COUNT_BYTES = 8
_CAN_SHARE = hasattr(os, "memfd_create")  # which Linux has; elsewhere each process has its own


class PixelSlab:
    """Pixels of pictures of one shape, by key; the first ones, up to a number of bytes.

    Processes that are forked from this one, or spawned with it as an argument, read what any of
    them has kept. Where the system cannot share it, a forked one goes on with a copy.

    Args:
        like: pixels of the shape and type that all have.
        room: bytes at most; at least those of one picture.

    Attributes:
        picture_bytes: of the pixels of one picture.

    Raises:
        OSError: the memory cannot be had.
    """

    def __init__(self, like: Tensor, room: int) -> None:
        self._shape, self._dtype = like.shape, like.dtype
        self._n_slots = room // (like.nbytes + KEY_BYTES)
        self._open(os.memfd_create("pixels") if _CAN_SHARE else None)

    def __len__(self) -> int:
        """Pictures that are kept."""
        return int(self._count[0])

    @property
    def is_full(self) -> bool:
        """Whether no other picture will be kept."""
        return len(self) >= self._n_slots

    @property
    def is_shared(self) -> bool:
        """Whether other processes see what this one keeps."""
        return self._file is not None

    def find(self, key: bytes) -> Tensor | None:
        """The pixels of a key in their place, which is nobody's to write to; None without any."""
        if len(self._slots) < len(self):
            with self._alone():
                self._catch_up()
        slot = self._slots.get(key)
        return None if slot is None else self._pixels[slot]

    def keep(self, key: bytes, pixels: Tensor) -> None:
        """Keeps pixels while there is room, and where they are of the one shape."""
        if self.is_full or (pixels.shape, pixels.dtype) != (self._shape, self._dtype):
            return
        with self._alone():
            self._catch_up()
            slot = len(self)
            if key in self._slots or slot >= self._n_slots or not self._take(slot):
                return
            self._pixels[slot] = pixels
            self._keys[slot] = np.frombuffer(key, np.uint8)
            self._slots[key] = slot
            self._count[0] = slot + 1

    def _open(self, file: int | None) -> None:
        """Maps the memory behind a file descriptor, which is this object's to close."""
        keys_end = _COUNT_BYTES + KEY_BYTES * self._n_slots
        self._begin = -keys_end % mmap.PAGESIZE + keys_end
        self.picture_bytes = math.prod(self._shape) * self._dtype.itemsize
        size = self._begin + self._n_slots * self.picture_bytes
        self._file, self._threads = file, threading.Lock()
        memory: Any
        if file is None:
            memory = torch.empty(size, dtype=torch.uint8).numpy()
            memory[:_COUNT_BYTES] = 0
        else:
            weakref.finalize(self, os.close, file)
            if os.fstat(file).st_size == 0:
                os.ftruncate(file, size)
                os.posix_fallocate(file, 0, self._begin)
            memory = mmap.mmap(file, size)
        self._count = np.frombuffer(memory, np.uint64, 1)
        keys = np.frombuffer(memory, np.uint8, KEY_BYTES * self._n_slots, _COUNT_BYTES)
        self._keys = keys.reshape(self._n_slots, KEY_BYTES)
        pixels = torch.frombuffer(memory, dtype=self._dtype, offset=self._begin)
        self._pixels = pixels.reshape(self._n_slots, *self._shape)
        self._slots: dict[bytes, int] = {}  # of those that this process knows of

    def _catch_up(self) -> None:
        """Learns which pictures other processes have kept."""
        for slot in range(len(self._slots), len(self)):
            self._slots[self._keys[slot].tobytes()] = slot

    def _take(self, slot: int) -> bool:
        """Whether there is memory for a slot; takes it."""
        if self._file is None:
            return True
        try:
            begin = self._begin + slot * self.picture_bytes
            os.posix_fallocate(self._file, begin, self.picture_bytes)
        except OSError:
            self._n_slots = slot
            return False
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps other threads and processes out."""
        with self._threads:
            if self._file is None:
                yield
                return
            import fcntl  # which Windows has not

            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                yield
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is being spawned, which gets the memory itself."""
        if self._file is None or context.get_spawning_popen() is None:
            raise TypeError("pixels are handed to a process when it is started, and not otherwise")
        return {
            "_shape": self._shape,
            "_dtype": self._dtype,
            "_n_slots": len(self._keys),
            "file": reduction.DupFd(self._file),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        file = state.pop("file").detach()
        vars(self).update(state)
        self._open(file)
