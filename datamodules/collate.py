"""From records to an `EditBatch`: one table of distinct rows, each under its edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from datamodules.images import ImageStore
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.records import Record
from datamodules.scenarios import Prompt, Scenario
from models.rows import TEXT_ONLY, EditBatch, Rows, RowText

Locate = Callable[[str], Path]


class RowTable:
    """Collects distinct rows; a question asked twice under one edit stands once.

    Args:
        encoder: makes the tokens.
        images: makes the pixels.
        locate: image field -> picture file.
        plain_locality: plain questions stand without the template.
    """

    def __init__(
        self, encoder: PromptEncoder, images: ImageStore, locate: Locate, *, plain_locality: bool
    ) -> None:
        self._encoder, self._images, self._locate = encoder, images, locate
        self._plain = plain_locality
        self._place: dict[tuple[int, Prompt], int] = {}
        self._rows: list[Encoded] = []
        self._pictures: dict[str, int] = {}
        self._image_index: list[int] = []
        self._edit_index: list[int] = []

    def add(self, asked: Prompt, edit: int) -> int:
        """The row of a question under an edit; makes it where it is new."""
        asked = asked._replace(plain=asked.plain and self._plain)
        key = (edit, asked)
        if key not in self._place:
            self._place[key] = len(self._rows)
            self._rows.append(encode(self._encoder, asked))
            self._edit_index.append(edit)
            self._image_index.append(
                TEXT_ONLY
                if asked.image is None
                else self._pictures.setdefault(asked.image, len(self._pictures))
            )
        return self._place[key]

    def rows(self) -> Rows:
        """All rows so far, padded to one length."""
        return self._encoder.rows(
            self._rows,
            [_text(asked) for _, asked in self._place],
            edit_index=self._edit_index,
            image_index=self._image_index,
            pixel_values=self._images.stack(map(self._locate, self._pictures)),
        )


class Collator:
    """Makes the batch of a scenario from some records.

    Args:
        encoder: makes the tokens.
        images: makes the pixels.
        locate: image field -> picture file.
        scenario: what is taught and asked.
        plain_locality: plain questions stand without the template.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        images: ImageStore,
        locate: Locate,
        scenario: Scenario,
        *,
        plain_locality: bool,
    ) -> None:
        self._encoder, self._images, self._locate = encoder, images, locate
        self._scenario, self._plain = scenario, plain_locality

    def __call__(self, records: Sequence[tuple[int, Record]]) -> EditBatch:
        """A batch of single edits, one per (id, record)."""
        table = RowTable(self._encoder, self._images, self._locate, plain_locality=self._plain)
        edits: list[int] = []
        probes: dict[str, list[int]] = {}
        for edit, (_, record) in enumerate(records):
            taught = self._scenario.edit(record)
            if taught is not None:
                edits.append(table.add(taught, edit))
            for name, ask in self._scenario.probes.items():
                asked = ask(record)
                if asked is not None:
                    probes.setdefault(name, []).append(table.add(asked, edit))
        return EditBatch(
            rows=table.rows(),
            edit_rows=torch.tensor(edits),
            probes={name: torch.tensor(rows) for name, rows in probes.items()},
            edit_ids=tuple(number for number, _ in records),
            subjects=tuple(record.subject for _, record in records),
        )


def encode(encoder: PromptEncoder, asked: Prompt) -> Encoded:
    """The tokens of a question."""
    return encoder.encode(
        asked.question, asked.answer, picture=asked.image is not None, plain=asked.plain
    )


def _text(asked: Prompt) -> RowText:
    return RowText(asked.question, asked.answer, asked.image is not None, asked.plain)
