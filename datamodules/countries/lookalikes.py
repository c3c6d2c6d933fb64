"""Flags that look alike: Chad and Romania, Egypt and Yemen.

Two flags look alike where their square views, averaged to 24 x 24 pixels, differ little:

    d(a, b) = sqrt(mean((a - b)^2)) < 40 of 255
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 24
NEAR = 40.0


def look_alikes(flags: Mapping[str, Path]) -> list[tuple[str, str]]:
    """Pairs of countries whose flags look alike, the nearest first.

    Args:
        flags: picture of the square flag, by the country's name.
    """
    thumbs = {name: _thumb(path) for name, path in sorted(flags.items())}
    found = []
    for one, other in combinations(thumbs, 2):
        distance = float(np.sqrt(np.mean((thumbs[one] - thumbs[other]) ** 2)))
        if distance < NEAR:
            found.append((distance, one, other))
    return [(one, other) for _, one, other in sorted(found)]


def _thumb(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        small = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float64)
