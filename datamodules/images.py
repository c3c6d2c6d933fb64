"""Pictures: checked before any work, decoded once, handed over as pixel tensors."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from datamodules.picture_file import read_image
from errors import DataError

ROOM = 2**30  # bytes of pixels that a run keeps: 790 pictures of 336 x 336, more of smaller ones


class ImageStore:
    """Pixel tensors of picture files, through the model's own image processor.

    The latest ones are kept, up to a number of bytes. Processes that prepare batches share that
    number, and each of them begins with none.

    Args:
        process: a PIL image -> (C, H, W) float tensor.
        room: bytes of pixels that are kept at most.
    """

    def __init__(self, process: Callable[[Image.Image], Tensor], room: int = ROOM) -> None:
        self._process, self._room = process, room
        self.clear()

    def __call__(self, path: Path) -> Tensor:
        """The picture's pixels, (C, H, W).

        Raises:
            DataError: the file cannot be decoded.
        """
        if path in self._kept:
            self._kept.move_to_end(path)
            return self._kept[path]
        pixels = self._processed(path)
        self._kept[path] = pixels
        self._bytes += pixels.nbytes
        worker = get_worker_info()
        room = self._room if worker is None else self._room // worker.num_workers
        while self._bytes > room:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes
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
        if path in self._sound:
            return
        if self._bytes < self._room:
            self(path)
        else:
            read_image(path)
        self._sound.add(path)

    def clear(self) -> None:
        """Gives all pixels back."""
        self._kept: OrderedDict[Path, Tensor] = OrderedDict()
        self._bytes = 0
        self._sound: set[Path] = set()

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
        """For another process: without the pixels."""
        empty = ImageStore(self._process, self._room)
        return vars(empty)
