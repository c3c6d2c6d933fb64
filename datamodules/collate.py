"""From records to an `EditBatch`: one table of distinct rows, each under its edit."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor

from datamodules.contradicted import contradicted
from datamodules.images import ImageStore
from datamodules.name_first import name_first
from datamodules.order import dealt
from datamodules.pictures import Pictures
from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.prompts import Prompt
from datamodules.reading import ReadingQuestions, reading_questions
from datamodules.records import NumberedRecord, Record
from datamodules.row_length import check_length
from datamodules.scenarios import Scenario
from models.row_keys import picture_keys
from models.rows import (
    TEXT_ONLY,
    EditBatch,
    NamingQuestions,
    PictureQuestions,
    Rows,
    RowText,
    TextForm,
)


class RowTable:
    """Collects distinct rows; a prompt that stands twice under one edit is one row.

    Args:
        encoder: makes the tokens.
        images: makes the pixels.
        pictures: where they are.
        plain_locality: whether plain questions stand without the template.
        cloze: whether all text questions do.
    """

    def __init__(
        self,
        encoder: PromptEncoder,
        images: ImageStore,
        pictures: Pictures,
        *,
        plain_locality: bool,
        cloze: bool = False,
    ) -> None:
        self._encoder, self._images, self._pictures = encoder, images, pictures
        self._plain_locality, self._cloze = plain_locality, cloze
        self._row_of: dict[tuple[int, Prompt], int] = {}
        self._encoded: list[Encoded] = []
        self._picture_of: dict[str, int] = {}
        self._image_index: list[int] = []
        self._has_pixels = True

    def __len__(self) -> int:
        return len(self._encoded)

    def beside(self) -> RowTable:
        """An empty table whose rows show the pictures of this one, which keeps their pixels.

        Its rows have to be there before `rows` of this table is called.
        """
        table = RowTable(
            self._encoder, self._images, self._pictures, plain_locality=self._plain_locality
        )
        table._picture_of, table._has_pixels = self._picture_of, False
        return table

    def find(self, prompt: Prompt, edit: int) -> int | None:
        """The row of a prompt under an edit, if it is there."""
        return self._row_of.get((edit, self._as_asked(prompt)))

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

    def check(self, prompts: Iterable[Prompt]) -> int:
        """Makes sure that the rows of an edit could be made; adds none.

        Returns:
            How many tokens they have (`distinct_tokens`).

        Raises:
            DataError: a row cannot be made, as in `add`, or a picture cannot be read.
        """
        rows: list[tuple[Encoded, str | None]] = []
        for prompt in prompts:
            rows.append((self._encode(self._as_asked(prompt)), prompt.image))
            if prompt.image is not None:
                self._images.check(self._pictures.path(prompt.image))
        return distinct_tokens(rows)

    def rows(self) -> Rows:
        """All rows so far, padded to one length."""
        pixels = self._pixels() if self._has_pixels else None
        rows = self._encoder.rows(
            self._encoded,
            [row_text(prompt) for _, prompt in self._row_of],
            edit_index=[edit for edit, _ in self._row_of],
            image_index=self._image_index,
            pixel_values=pixels,
        )
        return rows if pixels is None else replace(rows, picture_keys=picture_keys(rows))

    def _pixels(self) -> Tensor | None:
        return self._images.stack(map(self._pictures.path, self._picture_of))

    def is_plain(self, prompt: Prompt) -> bool:
        """Whether a prompt stands without the template."""
        return self._as_asked(prompt).plain

    def _as_asked(self, prompt: Prompt) -> Prompt:
        return as_asked(prompt, plain_locality=self._plain_locality, cloze=self._cloze)

    def _encode(self, prompt: Prompt) -> Encoded:
        encoded = self._encoder.encode(**row_text(prompt).tokens)
        check_length(encoded, self._encoder.max_positions, prompt.question, prompt.answer)
        return encoded


def distinct_tokens(rows: Iterable[tuple[Encoded, str | None]]) -> int:
    """Tokens of an edit's rows, each with its picture, where what they begin with counts once.

    A pass over packed rows (`models.packing`) reads about as many.
    """
    count, root = 0, dict[object, Any]()
    for row, image in rows:
        tokens: list[object] = list(row.ids)
        widths = [1] * len(tokens)
        if image is not None and True in row.slots:
            first, stop = row.slots.index(True), len(row.slots) - row.slots[::-1].index(True)
            tokens[first:stop], widths[first:stop] = [image], [stop - first]
        node = root
        for token, width in zip(tokens, widths, strict=True):
            if token not in node:
                node[token] = {}
                count += width
            node = node[token]
    return count


def as_asked(prompt: Prompt, *, plain_locality: bool, cloze: bool) -> Prompt:
    """A prompt whose `plain` alone says whether it stands without the template.

    Args:
        prompt: of a scenario.
        plain_locality: as in `RowTable`.
        cloze: as in `RowTable`.
    """
    is_cloze = prompt.cloze or (cloze and prompt.image is None)
    return prompt._replace(plain=is_cloze or (prompt.plain and plain_locality), cloze=False)


def row_text(prompt: Prompt) -> RowText:
    """What a row of a prompt says."""
    return RowText(
        prompt.question,
        prompt.answer,
        prompt.image is not None,
        prompt.plain,
        aliases=prompt.aliases,
        ended=prompt.ended,
    )


@dataclass(frozen=True)
class Collator:
    """Makes the batch of a scenario from some records.

    Attributes:
        reads: whether the batch also holds what tells which pictures the unedited model reads.
    """

    make_table: Callable[[], RowTable]
    scenario: Scenario
    reads: bool = False

    @property
    def teaching(self) -> Collator:
        """Makes batches of the same edits, of which nothing is asked."""
        scenario = replace(self.scenario, probes={}, names_first=False)
        return replace(self, scenario=scenario, reads=False)

    def __call__(self, records: Sequence[NumberedRecord]) -> EditBatch:
        """A batch of single edits, one per (id, record)."""
        table = self.make_table()
        edit_rows: list[int] = []
        probe_rows: dict[str, list[int]] = {}
        asked: list[Asked] = []
        of_others = self._contradicted([record for _, record in records])
        for edit, (_, record) in enumerate(records):
            edit_rows += [table.add(prompt, edit) for prompt in self.scenario.edit(record)]
            for probe, make_prompt in self.scenario.probes.items():
                prompt = None if (edit, probe) in of_others else make_prompt(record)
                if prompt is not None:
                    asked.append(Asked(edit, probe, reading_questions(record, probe, prompt)))
                    probe_rows.setdefault(probe, []).append(table.add(prompt, edit))
        pictures = picture_questions(table, asked) if self.reads else None
        naming = self._naming_questions(table, [record for _, record in records])
        return EditBatch(
            rows=table.rows(),
            edit_rows=torch.tensor(edit_rows),
            probes={probe: torch.tensor(rows) for probe, rows in probe_rows.items()},
            edit_ids=tuple(number for number, _ in records),
            subjects=tuple(record.about for _, record in records),
            pictures=pictures,
            naming=naming,
        )

    def _contradicted(self, records: Sequence[Record]) -> Collection[tuple[int, str]]:
        """Probes, by their edits, whose answer another edit of the batch changes with its own."""
        if not self.scenario.n_updates:
            return ()
        made = [edit for update in dealt(len(records), self.scenario.n_updates) for edit in update]
        wrong = contradicted([records[edit] for edit in made], self.scenario)
        return {(made[place], probe) for place, probe in wrong}

    def _naming_questions(
        self, table: RowTable, records: Sequence[Record]
    ) -> NamingQuestions | None:
        """What is asked first of the pictures of a batch; None where nothing is asked by a name."""
        if not self.scenario.names_first:
            return None
        beside, numbers = table.beside(), dict[Prompt, int]()
        forms: dict[str, list[TextForm | None]] = {}
        for record in records:
            for probe, make_prompt in self.scenario.probes.items():
                if (prompt := make_prompt(record)) is None:
                    continue
                if (way := name_first(record, probe, prompt)) is None:
                    forms.setdefault(probe, []).append(None)
                    continue
                row = numbers.setdefault(way.naming, beside.add(way.naming, 0))
                is_plain = table.is_plain(prompt._replace(image=None))
                forms.setdefault(probe, []).append(TextForm(row, way.pieces, is_plain))
        if not numbers:
            return None
        of_probes = {probe: tuple(of_rows) for probe, of_rows in forms.items()}
        return NamingQuestions(beside.rows(), tuple(numbers), of_probes)


class Asked(NamedTuple):
    """A probe of an edit in a batch, and what tells whether its picture is read."""

    edit: int
    probe: str
    reading: ReadingQuestions


def picture_questions(table: RowTable, asked: Sequence[Asked]) -> PictureQuestions | None:
    """The questions about the pictures of a batch; None where no probe shows one.

    Args:
        table: holds all rows of the batch; a question that is one of them is not asked again.
        asked: its probes, each under its edit.
    """
    beside, keys = table.beside(), dict[Prompt, None]()

    def place(prompt: Prompt | None, edit: int) -> int | None:
        if prompt is None:
            return None
        own = table.find(prompt, edit)
        if own is not None:
            return own
        keys.setdefault(prompt)
        return len(table) + beside.add(prompt, 0)

    naming: dict[str, list[int | None]] = {}
    facts: dict[str, list[int | None]] = {}
    for edit, probe, reading in asked:
        naming.setdefault(probe, []).append(place(reading.naming, edit))
        facts.setdefault(probe, []).append(place(reading.fact, edit))
    if not any(number is not None for numbers in facts.values() for number in numbers):
        return None
    return PictureQuestions(
        rows=beside.rows() if keys else None,
        keys=tuple(keys),
        naming={probe: tuple(numbers) for probe, numbers in naming.items()},
        facts={probe: tuple(numbers) for probe, numbers in facts.items()},
    )
