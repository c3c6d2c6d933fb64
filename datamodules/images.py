"""Pictures: checked before any work, decoded once, handed over as pixel tensors."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from errors import DataError

_NAMED = 5  # how many missing files an error names
_CACHED = 8192


def missing_images_error(paths: Iterable[Path], root: Path, why: str) -> DataError | None:
    """The error to raise when pictures are not there, or None."""
    needed = sorted(set(paths))
    missing = [path for path in needed if not path.is_file()]
    if not missing:
        return None
    first = ", ".join(os.path.relpath(path, root) for path in missing[:_NAMED])
    more = f" and {len(missing) - _NAMED} more" if len(missing) > _NAMED else ""
    return DataError(
        f"{why} needs {len(needed)} pictures, and {len(missing)} of them are missing in {root}: "
        f"{first}{more}. Put the files there, point data.image_root at the folder that has them, "
        "or use scenario=unimodal, which shows no picture."
    )


class ImageStore:
    """Pixel tensors of picture files, through the model's own image processor.

    Args:
        process: a PIL image -> (C, H, W) float tensor.
    """

    def __init__(self, process: Callable[[Image.Image], Tensor]) -> None:
        self._process = process
        self._cache: OrderedDict[Path, Tensor] = OrderedDict()

    def __call__(self, path: Path) -> Tensor:
        """The picture's pixels, (C, H, W).

        Raises:
            DataError: the file cannot be decoded.
        """
        if path not in self._cache:
            self._cache[path] = self._process(read_image(path))
            if len(self._cache) > _CACHED:
                self._cache.popitem(last=False)
        return self._cache[path]

    def stack(self, paths: Iterable[Path]) -> Tensor | None:
        """Distinct pictures as (P, C, H, W), or None for none."""
        pixels = [self(path) for path in paths]
        return torch.stack(pixels) if pixels else None


def read_image(path: Path) -> Image.Image:
    """A picture as RGB; transparency is laid over mid-grey.

    Raises:
        DataError: the file is not a picture or is cut short.
    """
    try:
        with Image.open(path) as image:
            image.load()
            if image.mode not in ("P", "RGBA", "LA"):
                return image.convert("RGB")
            backdrop = Image.new("RGBA", image.size, (128, 128, 128, 255))
            return Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError) as error:
        raise DataError(
            f"the picture {path} cannot be read ({error}). It is damaged, cut short or not a "
            "picture: replace the file or leave its record out."
        ) from error
