"""Tensors in a safetensors file: its header is read and checked before anything of it is loaded.

A header names every tensor with its shape, and says in words what the file was made of (`facts`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from errors import ModelError, some_of
from models.deltas import Site
from models.sites import ROLES

Shape = tuple[int | None, ...]  # None: of any size


@dataclass(frozen=True)
class TensorFile:
    """The header of a file, and the words of all errors about it.

    Attributes:
        path: the file.
        name: what messages call it: the path, or an option with it.
        remedy: a sentence that says what to do, the end of every message.
        facts: what it says of itself.
        shapes: the shape of each tensor in it.
        types: the number type of each, in the format's words, such as F32.
    """

    path: Path
    name: str
    remedy: str
    facts: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]

    @classmethod
    def of(cls, path: str | Path, *, remedy: str, name: str | None = None) -> TensorFile:
        """Reads a header.

        Args:
            path: the file.
            remedy: what to do about a file that cannot be used: a sentence.
            name: what messages call the file; default its path.

        Raises:
            ModelError: there is no such file, or it is damaged or of another format.
        """
        name = name or str(path)
        try:
            with safe_open(path, "pt") as file:
                facts = file.metadata() or {}
                stored = {tensor: file.get_slice(tensor) for tensor in file.keys()}  # noqa: SIM118
                shapes = {tensor: tuple(part.get_shape()) for tensor, part in stored.items()}
                types = {tensor: str(part.get_dtype()) for tensor, part in stored.items()}
        except (SafetensorError, OSError) as error:
            raise _unreadable(name, remedy, error) from error
        return cls(Path(path), name, remedy, facts, shapes, types)

    def check_facts(self, **expected: str) -> None:
        """Refuses a file that was made of something else.

        Raises:
            ModelError: naming what it says, and what was expected.
        """
        wrong = [
            f"the {key} {self.facts.get(key, '(not said)')} instead of {value}"
            for key, value in expected.items()
            if self.facts.get(key) != value
        ]
        if wrong:
            raise ModelError(f"{self.name} was made for {' and '.join(wrong)}. {self.remedy}")

    def check_shapes(self, expected: Mapping[str, Shape]) -> None:
        """Refuses a file without some tensors, or with others under their names.

        Args:
            expected: the shape of each tensor that is needed.

        Raises:
            ModelError: naming the tensors, and what is there.
        """
        if missing := [tensor for tensor in expected if tensor not in self.shapes]:
            raise ModelError(
                f"{self.name} has no {some_of(missing)}; it has "
                f"{some_of(sorted(self.shapes)) or 'no tensor at all'}. {self.remedy}"
            )
        wrong = [
            f"{tensor} of shape {self.shapes[tensor]}, and {_readable(shape)} is expected"
            for tensor, shape in expected.items()
            if not _fits(self.shapes[tensor], shape)
        ]
        if wrong:
            raise ModelError(f"{self.name} has {some_of(wrong)}. {self.remedy}")

    def sites(self, keys: Iterable[str]) -> dict[str, Site]:
        """The sites that some names of the file stand for.

        Raises:
            ModelError: naming one that is no `<layer>.<role>`.
        """
        named = {key: Site.of_key(key) for key in keys}
        if wrong := [key for key, site in named.items() if site is None]:
            raise ModelError(
                f"{self.name} holds {some_of(wrong)}; linear maps named "
                f"<layer>.<{'|'.join(ROLES)}> are expected. {self.remedy}"
            )
        return {key: site for key, site in named.items() if site is not None}

    def read(
        self, names: Iterable[str] | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Loads tensors.

        Args:
            names: which, all of them in the header; default all.
            device: where to.

        Raises:
            ModelError: the file went or changed since its header was read.
        """
        try:
            with safe_open(self.path, "pt", device=str(device)) as file:
                names = self.shapes if names is None else names
                return {name: file.get_tensor(name) for name in names}
        except (SafetensorError, OSError) as error:
            raise _unreadable(self.name, self.remedy, error) from error


def _unreadable(name: str, remedy: str, error: Exception) -> ModelError:
    if isinstance(error, FileNotFoundError):
        return ModelError(f"{name} cannot be read: there is no such file. {remedy}")
    damaged = ": it is damaged or incomplete" if isinstance(error, SafetensorError) else ""
    return ModelError(f"{name} cannot be read ({error}){damaged}. {remedy}")


def _fits(shape: tuple[int, ...], expected: Shape) -> bool:
    return len(shape) == len(expected) and all(
        wanted in (None, size) for size, wanted in zip(shape, expected, strict=True)
    )


def _readable(shape: Shape) -> str:
    """As Python writes a shape.

    >>> _readable((None, 3)), _readable((2,))
    ('(any, 3)', '(2,)')
    """
    sizes = ", ".join("any" if size is None else str(size) for size in shape)
    return f"({sizes},)" if len(shape) == 1 else f"({sizes})"
