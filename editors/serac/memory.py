"""SERAC's memory: the edits as given, with their embeddings kept until the scope moves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from editors.serac.scope import Scope
from errors import ModelError
from models.tensor_file import TensorFile
from results.files import replacing_folder

_TEXTS, _PICTURES = "entries.json", "pictures.safetensors"


@dataclass(frozen=True, eq=False)
class Entry:
    """One edit.

    Attributes:
        picture: (d_base,) pooled features of the picture that the edit showed, or None.
    """

    question: str
    answer: str
    picture: Tensor | None = None

    @property
    def text(self) -> str:
        """As both networks read it."""
        return f"{self.question} {self.answer}"


class Memory:
    """Edits in the order in which they came; a value: `add` and `remove` return a new one."""

    def __init__(self, entries: Sequence[Entry] = ()) -> None:
        self.entries = tuple(entries)
        self._embedded: tuple[tuple[int, ...], Tensor] | None = None

    def __len__(self) -> int:
        return len(self.entries)

    def add(self, *entries: Entry) -> Memory:
        """This memory and some edits more; embeddings that are kept are not made again."""
        larger = Memory((*self.entries, *entries))
        larger._embedded = self._embedded
        return larger

    def remove(self, *numbers: int) -> Memory:
        """This memory without some edits, counted from 0.

        Raises:
            ModelError: there is no such edit.
        """
        if wrong := [number for number in numbers if not 0 <= number < len(self)]:
            raise ModelError(
                f"the memory holds {len(self)} edits, counted from 0; there is no edit {wrong[0]}."
            )
        return Memory([e for number, e in enumerate(self.entries) if number not in numbers])

    def embedded(self, scope: Scope) -> Tensor:
        """Embeddings of all entries: (M, d); kept where no gradient is wanted."""
        if torch.is_grad_enabled():
            return self._embed(scope, self.entries)
        known = None
        if self._embedded is not None and self._embedded[0] == scope.stamp:
            known = self._embedded[1]
        rest = self.entries[0 if known is None else len(known) :]
        if known is None or rest:
            new = self._embed(scope, rest)
            known = new if known is None else torch.cat([known, new])
            self._embedded = (scope.stamp, known)
        return known

    def save(self, folder: Path) -> None:
        """Writes the memory into a folder of its own, whose former content goes.

        Raises:
            UnwritableError: naming the folder, which is as it was.
        """
        texts = [{"question": e.question, "answer": e.answer} for e in self.entries]
        pictures = {
            str(number): entry.picture.contiguous().cpu()
            for number, entry in enumerate(self.entries)
            if entry.picture is not None
        }
        with replacing_folder(folder) as temporary:
            (temporary / _TEXTS).write_text(json.dumps(texts, indent=1), encoding="utf-8")
            save_file(pictures, temporary / _PICTURES)

    @classmethod
    def load(cls, folder: Path) -> Memory:
        """Reads what `save` wrote.

        Raises:
            ModelError: a file is missing or damaged.
        """
        remedy = "Give a folder that Memory.save wrote."
        try:
            texts = json.loads((folder / _TEXTS).read_text(encoding="utf-8"))
            entries = [Entry(text["question"], text["answer"]) for text in texts]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{folder} holds no memory that can be read ({type(error).__name__}: {error}). "
                f"{remedy}"
            ) from error
        pictures = TensorFile.of(folder / _PICTURES, remedy=remedy).read()
        return cls(
            [replace(entry, picture=pictures.get(str(n))) for n, entry in enumerate(entries)]
        )

    @staticmethod
    def _embed(scope: Scope, entries: Sequence[Entry]) -> Tensor:
        device = next(scope.parameters()).device  # a memory that was read lies on the CPU
        given = [e.picture if e.picture is None else e.picture.to(device) for e in entries]
        first = next((picture for picture in given if picture is not None), None)
        pictures = None
        if first is not None:
            blank = torch.zeros_like(first)
            pictures = torch.stack([blank if picture is None else picture for picture in given])
        return scope.embed([entry.text for entry in entries], pictures)
