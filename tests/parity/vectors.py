"""Vectors from the authors' code: .npz files in TMKE_GOLDEN, found by the form of their name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.builders import GOLDEN

Vectors = dict[str, np.ndarray]


def files(pattern: str, *, without: str | None = None) -> list[Path]:
    """All files of a kind, whatever their seed, size, precision and model.

    Args:
        pattern: of the kind.
        without: pattern of another kind, whose names begin alike.
    """
    others = set(GOLDEN.glob(without)) if without else set[Path]()
    return sorted(set(GOLDEN.glob(pattern)) - others)


def parameters(pattern: str, *, without: str | None = None) -> list[object]:
    """The same as parameters of a test; none of them there is a skip that says so."""
    found: list[object] = [
        pytest.param(path, id=path.stem) for path in files(pattern, without=without)
    ]
    reason = f"{GOLDEN} holds no {pattern}"
    return found or [pytest.param(None, id="none", marks=pytest.mark.skip(reason=reason))]


def assert_shipped(pattern: str, *, without: str | None = None) -> None:
    """Fails where a kind that ships with the tests is gone; another folder may hold fewer kinds."""
    there = files(pattern, without=without)
    if not there and "TMKE_GOLDEN" in os.environ:
        pytest.skip(f"TMKE_GOLDEN={GOLDEN} holds no {pattern}")
    assert there, f"no {pattern} in {GOLDEN}; it belongs to the repository"


def load(path: Path) -> Vectors:
    """All arrays of a file."""
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


def tolerance(arrays: Vectors, *, double: float = 1e-9, single: float = 1e-5) -> float:
    """What a file's own precision allows, as a share of an array's largest value.

    A file of float32 may hold its single numbers as Python's, in float64.
    """
    kinds = {value.dtype.itemsize for value in arrays.values() if value.dtype.kind == "f"}
    return double if min(kinds) == 8 else single


def below(vectors: Vectors, prefix: str) -> dict[str, Tensor]:
    """The arrays whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): torch.from_numpy(value)
        for name, value in vectors.items()
        if name.startswith(prefix)
    }


def assert_close(ours: Tensor, theirs: Tensor, relative: float, name: str) -> None:
    """Equal up to a share of the vectors' largest value."""
    assert ours.shape == theirs.shape, f"{name}: {tuple(ours.shape)} is not {tuple(theirs.shape)}"
    difference = float((ours.detach() - theirs).abs().max())
    bound = relative * float(theirs.abs().max())
    assert difference <= bound, f"{name}: off by {difference:.2e}, allowed are {bound:.2e}"
