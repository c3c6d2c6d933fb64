"""From records to an `EditBatch`: one table of distinct rows, each under its edit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from datamodules.images import ImageStore
from datamodules.picture_folder import PictureFolder
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.records import NumberedRecord
from datamodules.row_length import check_length
from datamodules.scenarios import Prompt, Scenario
from models.rows import TEXT_ONLY, EditBatch, Rows, RowText


class RowTable:
    """Collects distinct rows; a prompt that stands twice under one edit is one row.

    Args:
        encoder: makes the tokens.
        images: makes the pixels.
        pictures: where they are.
        plain_locality: whether plain questions stand without the template.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        images: ImageStore,
        pictures: PictureFolder,
        *,
        plain_locality: bool,
    ) -> None:
        self._encoder, self._images, self._pictures = encoder, images, pictures
        self._plain_locality = plain_locality
        self._row_of: dict[tuple[int, Prompt], int] = {}
        self._encoded: list[Encoded] = []
        self._picture_of: dict[str, int] = {}
        self._image_index: list[int] = []

    def add(self, prompt: Prompt, edit: int) -> int:
        """The row of a prompt under an edit; makes it where it is new.

        Raises:
            DataError: the answer tokenises to nothing, or the row is longer than what the model
                reads at once.
        """
        prompt = self._as_asked(prompt)
        if (edit, prompt) not in self._row_of:
            encoded, image = self._encode(prompt), prompt.image
            self._row_of[edit, prompt] = len(self._encoded)
            self._encoded.append(encoded)
            self._image_index.append(
                TEXT_ONLY
                if image is None
                else self._picture_of.setdefault(image, len(self._picture_of))
            )
        return self._row_of[edit, prompt]

    def check(self, prompt: Prompt) -> None:
        """Makes sure that a row could be made; adds none.

        Raises:
            DataError: the row cannot be made, as in `add`, or the picture cannot be read.
        """
        self._encode(self._as_asked(prompt))
        if prompt.image is not None:
            self._images.check(self._pictures.path(prompt.image))

    def rows(self) -> Rows:
        """All rows so far, padded to one length."""
        return self._encoder.rows(
            self._encoded,
            [RowText(p.question, p.answer, p.image is not None, p.plain) for _, p in self._row_of],
            edit_index=[edit for edit, _ in self._row_of],
            image_index=self._image_index,
            pixel_values=self._images.stack(map(self._pictures.path, self._picture_of)),
        )

    def _as_asked(self, prompt: Prompt) -> Prompt:
        return prompt._replace(plain=prompt.plain and self._plain_locality)

    def _encode(self, prompt: Prompt) -> Encoded:
        question, answer, image, plain = prompt
        encoded = self._encoder.encode(question, answer, picture=image is not None, plain=plain)
        check_length(encoded, self._encoder.max_positions, question, answer)
        return encoded


@dataclass(frozen=True)
class Collator:
    """Makes the batch of a scenario from some records."""

    make_table: Callable[[], RowTable]
    scenario: Scenario

    def __call__(self, records: Sequence[NumberedRecord]) -> EditBatch:
        """A batch of single edits, one per (id, record)."""
        table = self.make_table()
        edit_rows: list[int] = []
        probe_rows: dict[str, list[int]] = {}
        for edit, (_, record) in enumerate(records):
            edit_rows.append(table.add(self.scenario.edit(record), edit))
            for probe, make_prompt in self.scenario.probes.items():
                if (prompt := make_prompt(record)) is not None:
                    probe_rows.setdefault(probe, []).append(table.add(prompt, edit))
        return EditBatch(
            rows=table.rows(),
            edit_rows=torch.tensor(edit_rows),
            probes={probe: torch.tensor(rows) for probe, rows in probe_rows.items()},
            edit_ids=tuple(number for number, _ in records),
            subjects=tuple(record.subject for _, record in records),
        )
