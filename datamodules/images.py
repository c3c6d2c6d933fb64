"""Pictures: checked before any work, decoded once, handed over as pixel tensors."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable
from multiprocessing import context
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.picture_file import read_image
from datamodules.pixel_slab import KEY_BYTES, PixelSlab
from errors import DataError

log = logging.getLogger(__name__)
ROOM = 2**30  # bytes of pixels that a run keeps: 790 pictures of 336 x 336, more of smaller ones


class ImageStore:
    """Pixel tensors of picture files, through the model's own image processor.

    The first ones are kept, up to a number of bytes. Processes that prepare batches share them,
    whoever decodes a picture; where the system has no way to, they share that number, and each
    begins with none.

    Args:
        process: a PIL image -> (C, H, W) float tensor.
        room: bytes of pixels that are kept at most.
    """

    def __init__(self, process: Callable[[Image.Image], Tensor], room: int = ROOM) -> None:
        self._process, self._room = process, room
        self.clear()

    def __call__(self, path: Path) -> Tensor:
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

    def stack(self, paths: Iterable[Path]) -> Tensor | None:
        """Distinct pictures as (P, C, H, W), or None for none."""
        pixels = [self(path) for path in paths]
        return torch.stack(pixels) if pixels else None

    def check(self, path: Path) -> None:
        """Makes sure, once, that the picture can be decoded; keeps its pixels while there is room.

        Raises:
            DataError: it cannot.
        """
        key = _key(path)
        if key in self._sound:
            return
        if self._kept is not None and self._kept.is_full:
            read_image(path)
        else:
            self(path)
        self._sound.add(key)

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
        worker = get_worker_info()
        room = self._room if worker is None else self._room // worker.num_workers
        if self._kept is None and room >= pixels.nbytes + KEY_BYTES:
            try:
                self._kept = PixelSlab(pixels, room)
            except OSError as error:
                log.warning("no memory to keep pixels in (%s): they are decoded anew", error)
                self._room = 0
        if self._kept is not None:
            self._kept.keep(key, pixels)

    def _processed(self, path: Path) -> Tensor:
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

    def __getstate__(self) -> dict[str, Any]:
        """For another process: with the pixels where it is started now and can share them."""
        state = vars(ImageStore(self._process, self._room))
        starts = context.get_spawning_popen() is not None
        if starts and self._kept is not None and self._kept.is_shared:
            state["_kept"] = self._kept
        return state


def _key(path: Path) -> bytes:
    return hashlib.blake2b(str(path).encode(), digest_size=KEY_BYTES).digest()
