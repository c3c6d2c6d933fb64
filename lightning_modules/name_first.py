"""Name first, then ask: what the unedited model calls a picture, and the probes asked by that name.

    words = greedy answer of the unedited model to "What is the {type} in the image?"
    chained probe: the record's text question with the words where its entity is named

A picture is asked once in a run, whatever edits and probes show it. The words are taken as they
come, up to the longest answer (`metrics.max_new_tokens`, or the true name's length) or the line's
end; a model that says nothing is asked about "it". A question that its words make longer than what
the model reads at once is not asked.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from datamodules.name_first import named_in
from datamodules.prompt_encoder import PromptEncoder
from editors.base import AsksLonger, DeltaEdit
from errors import DataError
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.predictions import Predictions, own_predictions
from lightning_modules.scoring import Comparison
from metrics.headlines import FACT_BEFORE, GENERATION_MATCH, NAMED_BEFORE, PRE_VALUE
from metrics.name_first import CHAIN, NAME
from models.editable import EditableModel
from models.finite import check_own_logits
from models.rows import Answers, EditBatch, NamingQuestions, Rows, RowText, TextForm
from results.partial import Line

log = logging.getLogger(__name__)


class Said(NamedTuple):
    """What the unedited model said that a picture shows.

    Attributes:
        words: as it said them.
        is_right: whether they are the name of what is shown, or another name of it.
    """

    words: str
    is_right: float


@dataclass(frozen=True)
class NamedProbe:
    """A probe of an edit whose picture was named.

    Attributes:
        probe: its name.
        edit: its number in the batch.
        target: the true name.
        said: the model's.
    """

    probe: str
    edit: int
    target: str
    said: Said


class NameFirst:
    """Asks the unedited model what pictures show, each question once.

    Args:
        model: with no edit in place when it is asked.
        encoder: makes the tokens.
        max_new_tokens: longest name; a longer true name has its own length.
    """

    def __init__(self, model: EditableModel, encoder: PromptEncoder, max_new_tokens: int) -> None:
        self._model, self._encoder, self._max_new_tokens = model, encoder, max_new_tokens
        self._said: dict[Hashable, Said] = {}
        self._has_left_out = False

    def ask(self, batch: EditBatch) -> list[NamedProbe]:
        """What each probe's picture was named; nothing where none is asked by a name.

        Args:
            batch: its pictures are encoded.

        Raises:
            ModelError: the model's logits are no numbers.
        """
        questions = batch.naming
        if questions is None:
            return []
        self._ask(questions, batch)
        edit_of, names = batch.rows.edit_index.tolist(), questions.rows.texts
        return [
            NamedProbe(
                probe, edit_of[row], names[form.naming].answer,
                self._said[questions.keys[form.naming]],
            )
            for probe, row, form in _asked_by_name(batch, questions)
        ]  # fmt: skip

    def chained(self, batch: EditBatch, editor: object = None) -> EditBatch | None:
        """The probes asked by the names that `ask` got; None where there is none.

        Args:
            batch: of the edits.
            editor: that makes them; one that puts texts before questions has less room for them.

        Returns:
            A batch of the same edits whose probes are the chained ones; it has no edit rows.
        """
        questions = batch.naming
        if questions is None:
            return None
        edit_of, texts = batch.rows.edit_index.tolist(), batch.rows.texts
        taught: dict[int, list[RowText]] = {}
        for row in batch.edit_rows.tolist():
            taught.setdefault(edit_of[row], []).append(texts[row])
        row_of: dict[tuple[int, RowText], int] = {}
        probes: dict[str, list[int]] = {}
        for probe, row, form in _asked_by_name(batch, questions):
            words = self._said[questions.keys[form.naming]].words
            question = named_in(form.pieces, words)
            text = texts[row]._replace(question=question, picture=False, plain=form.plain)
            key = (edit_of[row], text)
            if key in row_of or self._has_room(text, taught[edit_of[row]], editor):
                number = row_of.setdefault(key, len(row_of))
                probes.setdefault(f"{probe}{CHAIN}", []).append(number)
        if not row_of:
            return None
        edits, asked = zip(*row_of, strict=True)
        device = batch.rows.input_ids.device
        encoded = [self._encoder.encode(**text.tokens) for text in asked]
        rows = self._encoder.rows(encoded, asked, edit_index=edits).to(device)
        return replace(
            batch,
            rows=rows,
            edit_rows=batch.edit_rows[:0],
            probes={name: torch.tensor(of_rows, device=device) for name, of_rows in probes.items()},
            pictures=None,
            naming=None,
        )

    def _has_room(self, text: RowText, taught: Sequence[RowText], editor: object) -> bool:
        """Whether a question with a name in it can be read; says once where one cannot."""
        length, most = len(self._encoder.encode(**text.tokens).ids), self._model.max_positions
        if length <= most and _fits(editor, taught, text):
            return True
        if not self._has_left_out:
            self._has_left_out = True
            log.warning(
                "evaluate.name_first: %r has %d tokens with the name in it, and the model reads "
                "%d, with what the editor puts before it; such questions are not asked",
                text.question, length, most,
            )  # fmt: skip
        return False

    @torch.no_grad()
    def _ask(self, questions: NamingQuestions, batch: EditBatch) -> None:
        """Asks what is not known yet, all of it at once."""
        new = [number for number, key in enumerate(questions.keys) if key not in self._said]
        if not new:
            return
        shown = questions.rows.showing(batch.rows)
        rows = shown.select(torch.tensor(new, device=shown.input_ids.device))
        at = rows.answers()
        own = own_predictions(self._model, rows, at)
        self._said |= zip(
            (questions.keys[number] for number in new), self._words(rows, at, own), strict=True
        )

    def _words(self, rows: Rows, at: Answers, own: Predictions) -> list[Said]:
        """What the unedited model answers freely."""
        asked = EditBatch(rows, rows.edit_index[:0], {}, (0,), ("",))
        check = _OwnCheck(asked, self._model, "none")
        generator = Generator(self._model, self._encoder, 0, self._max_new_tokens, check)
        every = torch.arange(len(rows), device=rows.input_ids.device)
        matches, texts = generator.matches(DeltaEdit(), rows, every, Comparison(at, own, own))
        return [Said(texts[row], float(matches[row])) for row in range(len(rows))]


def _asked_by_name(
    batch: EditBatch, questions: NamingQuestions
) -> Iterator[tuple[str, int, TextForm]]:
    """What is asked by a name: probe, row of the batch, and how it is asked in text."""
    for probe, forms in questions.forms.items():
        for row, form in zip(batch.probes[probe].tolist(), forms, strict=True):
            if form is not None:
                yield probe, row, form


def _fits(editor: object, taught: Sequence[RowText], asked: RowText) -> bool:
    """Whether an editor's models read a question behind what it puts before it."""
    if isinstance(editor, AsksLonger):
        try:
            editor.check_lengths(taught, [asked])
        except DataError:
            return False
    return True


@dataclass(frozen=True)
class _OwnCheck(FiniteCheck):
    """While the unedited model answers freely, no edit is to be blamed."""

    def edited(self, best: Tensor, row: Tensor) -> None:
        """Refuses the unedited model's logits (N,) that are no numbers, of these rows."""
        questions = self.batch.rows.questions
        check_own_logits(self.model, best, lambda index: repr(questions[int(row[index])]))


def naming_lines(batch: EditBatch, named: list[NamedProbe], *, seconds: float) -> Iterator[Line]:
    """Lines of edits.parquet: what each probe's picture was named, and whether rightly."""
    for one in named:
        yield {
            "edit_id": batch.edit_ids[one.edit],
            "subject": batch.subjects[one.edit],
            "probe": f"{one.probe}{NAME}",
            "metric": GENERATION_MATCH,
            "value": one.said.is_right,
            PRE_VALUE: None,
            NAMED_BEFORE: None,
            FACT_BEFORE: None,
            "pre_text": one.said.words,
            "post_text": None,
            "target": one.target,
            "seconds": seconds,
        }
