"""Pictures: checked before any work, decoded once, handed over as pixel tensors."""

from __future__ import annotations

import hashlib
import logging
import math
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from multiprocessing import context
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.picture_file import read_image
from datamodules.pictures import PictureFile
from datamodules.pixel_slab import KEY_BYTES, PixelSlab
from datamodules.workers import MOST, cores
from errors import DataError

T = TypeVar("T")
log = logging.getLogger(__name__)
ROOM = 2**30  # bytes of pixels that a run keeps: 790 pictures of 336 x 336, more of smaller ones
_AHEAD = 16  # records whose pictures are looked at before their turn


class ImageStore:
    """Pixel tensors of picture files, through the model's own image processor.

    The first ones are kept, up to a number of bytes. Processes that prepare batches share them,
    whoever decodes a picture; where the system has no way to, they share that number, and each
    begins with none.

    Args:
        process: a PIL image -> (C, H, W) float tensor.
        room: bytes of pixels that are kept at most.
        in_threads: whether threads may call `process` at the same time.
    """

    def __init__(
        self,
        process: Callable[[Image.Image], Tensor],
        room: int = ROOM,
        *,
        in_threads: bool = False,
    ) -> None:
        self._process, self._room, self._in_threads = process, room, in_threads
        self._threads: ThreadPoolExecutor | None = None
        self._expected: dict[bytes, Future[None]] = {}
        self._making = threading.Lock()
        self.clear()

    def __call__(self, path: PictureFile) -> Tensor:
        """The picture's pixels, (C, H, W), which are not the caller's to change.

        Raises:
            DataError: the file cannot be decoded.
        """
        key = _key(path)
        if self._kept is not None and (pixels := self._kept.find(key)) is not None:
            return pixels
        pixels = self._processed(path)
        self._keep(key, pixels)
        return pixels

    def stack(self, paths: Iterable[PictureFile]) -> Tensor | None:
        """Distinct pictures as (P, C, H, W), or None for none."""
        pixels = [self(path) for path in paths]
        return torch.stack(pixels) if pixels else None

    def check(self, path: PictureFile) -> None:
        """Makes sure, once, that the picture can be decoded; keeps its pixels while there is room.

        Raises:
            DataError: it cannot.
        """
        key = _key(path)
        if key in self._sound:
            return
        expected = self._expected.pop(key, None)
        if expected is None:
            self._look(path)
        else:
            expected.result()
        self._sound.add(key)

    def ahead(
        self,
        records: Iterable[T],
        paths: Callable[[T], Iterable[PictureFile]],
        n_certain: int | None,
    ) -> Generator[T, None, None]:
        """The same records, while threads look at the pictures that `check` will be called for.

        Close it as soon as no other record is taken: the threads end then.

        Args:
            records: what is checked, in order.
            paths: the pictures of one of them.
            n_certain: how many records are taken for certain; None: all. No picture of any other
                is opened before its turn.
        """
        coming: deque[T] = deque()
        with self._looking():
            for number, record in enumerate(records, start=1):
                for path in paths(record):
                    self._expect(path)
                coming.append(record)
                is_last = number >= (math.inf if n_certain is None else n_certain)
                while coming and (is_last or len(coming) > _AHEAD):
                    yield coming.popleft()
            yield from coming

    @contextmanager
    def _looking(self) -> Iterator[None]:
        n_threads = min(MOST, cores())
        if not self._in_threads or n_threads == 1:
            yield
            return
        with ThreadPoolExecutor(n_threads, thread_name_prefix="pictures") as self._threads:
            try:
                yield
            finally:
                self._threads.shutdown(cancel_futures=True)
                self._threads = None
                self._expected.clear()

    def _expect(self, path: PictureFile) -> None:
        key = _key(path)
        if self._threads and not (key in self._sound or key in self._expected):
            self._expected[key] = self._threads.submit(self._look, path)

    def _look(self, path: PictureFile) -> None:
        if self._kept is not None and self._kept.is_full:
            read_image(path)
        else:
            self(path)

    @property
    def n_sound(self) -> int:
        """Pictures that were checked."""
        return len(self._sound)

    @property
    def n_kept(self) -> int:
        """Pictures whose pixels are kept."""
        return 0 if self._kept is None else len(self._kept)

    @property
    def picture_bytes(self) -> int:
        """Of the pixels of one picture; 0 as long as none was looked at."""
        return 0 if self._kept is None else self._kept.picture_bytes

    def hand_over(self) -> None:
        """For processes that take over: gives pixels back that they cannot share."""
        if self._kept is not None and not self._kept.is_shared:
            self.clear()

    def clear(self) -> None:
        """Gives all pixels back."""
        self._kept: PixelSlab | None = None
        self._sound: set[bytes] = set()

    def _keep(self, key: bytes, pixels: Tensor) -> None:
        with self._making:
            if self._kept is None:
                self._kept = self._slab(pixels)
        if self._kept is not None:
            self._kept.keep(key, pixels)

    def _slab(self, pixels: Tensor) -> PixelSlab | None:
        """Room for pixels like these; None without any."""
        worker = get_worker_info()
        room = self._room if worker is None else self._room // worker.num_workers
        if room < pixels.nbytes + KEY_BYTES:
            return None
        try:
            return PixelSlab(pixels, room)
        except OSError as error:
            log.warning("no memory to keep pixels in (%s): they are decoded anew", error)
            self._room = 0
            return None

    def _processed(self, path: PictureFile) -> Tensor:
        image = read_image(path)
        try:
            return self._process(image)
        except (ValueError, TypeError, IndexError, OSError, MemoryError) as error:
            width, height = image.size
            raise DataError(
                f"the picture {path}, {width} x {height} pixels, does not go through the model's "
                f"image processor ({type(error).__name__}: {error}). Save it in another size, or "
                "leave its record out."
            ) from error

    def __reduce__(self) -> tuple[Any, ...]:
        """For another process: with the pixels where it is started now and can share them."""
        starts = context.get_spawning_popen() is not None
        shares = starts and self._kept is not None and self._kept.is_shared
        state = {"_kept": self._kept if shares else None}
        return partial(ImageStore, in_threads=self._in_threads), (self._process, self._room), state


def _key(path: PictureFile) -> bytes:
    return hashlib.blake2b(str(path).encode(), digest_size=KEY_BYTES).digest()
