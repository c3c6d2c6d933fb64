"""IKE (Zheng et al., Can We Edit Factual Knowledge by In-Context Learning?, EMNLP 2023).

Nothing is changed: the edited model is the base model that reads, before every question,

    32 demonstrations, nearest last
    New Fact: {edit question} {new answer}
    Prompt: {edit question} {new answer}

    New Fact: {edit question} {new answer}
    Prompt: {question asked}

Only the question asked shows a picture. It stands right in front of that question, so that all
probes of an edit share the text before it, which is read once; or in front of everything, where
released models were taught to see it, and the text is read once per picture.

The paper states one fact. Where edits follow on each other, all are stored, and each question is
asked under the stored edit that its words are nearest to, as if that were the only one.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache

import torch
from torch import Tensor

from datamodules.prompt_encoder import Encoded, PromptEncoder
from datamodules.records import Record
from editors.base import EditorInputs
from editors.ike.config import IkeOptions, PicturePlace
from editors.ike.demonstrations import context, own, stated
from editors.ike.retrieval import Retriever, Sentences, fact, nearest_stored
from editors.reread import reread
from errors import ModelError
from models.context import answer_with_shared_prefix
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows, RowText

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IkeEdit:
    """Demonstrations of B edits.

    Attributes:
        shown: per edit, demonstrations that may be dropped, farthest first.
        tail: per edit, what always stands before a question.
        encoder: the run's prompt function.
        notice: says once per run that demonstrations were left out.
        picture: where the picture of the question asked stands.
        dropped: edit -> demonstrations left out, known once the edit has answered.
        questions: per edit, its own question.
        sentences: finds the nearest of several stored edits; None where none are ever stored.
        stored: whether a question is asked under the edit nearest to it, and not under its row's.
    """

    shown: tuple[tuple[str, ...], ...]
    tail: tuple[str, ...]
    encoder: PromptEncoder
    notice: Notice
    picture: PicturePlace = "question"
    dropped: dict[int, int] = field(default_factory=dict, compare=False)
    questions: tuple[str, ...] = ()
    sentences: Sentences | None = None
    stored: bool = False

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens with each row's demonstrations before it.

        Raises:
            ModelError: a question does not fit into the context even without demonstrations, or an
                answer's tokens depend on what stands before the question.
        """
        rows = self._found(rows) if self.stored else rows
        whole, there = reread(self.encoder, self._fitted(model, rows), rows, at)
        group = rows.edit_index
        if self.picture == "front":
            pairs = torch.stack([rows.edit_index, rows.image_index], 1)
            group = pairs.unique(dim=0, return_inverse=True)[1]
        return answer_with_shared_prefix(model, whole, there, group=group)

    def after(self, earlier: IkeEdit | None) -> IkeEdit:
        """All edits stored side by side."""
        before = replace(self, shown=(), tail=(), questions=()) if earlier is None else earlier
        return replace(
            self,
            shown=before.shown + self.shown,
            tail=before.tail + self.tail,
            questions=before.questions + self.questions,
            dropped={},
            stored=True,
        )

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """Nothing: the base model is never edited."""
        return nullcontext()

    def _found(self, rows: Rows) -> Rows:
        """The rows, each under the stored edit whose own question its question is nearest to."""
        if len(self.shown) == 1:
            return replace(rows, edit_index=torch.zeros_like(rows.edit_index))
        if self.sentences is None:
            raise ValueError("a sentence encoder is needed to choose among several stored edits")
        asked = [text.question for text in rows.texts]
        nearest = nearest_stored(self.sentences, self.questions, asked)
        return replace(rows, edit_index=rows.edit_index.new_tensor(nearest))

    def _fitted(self, model: EditableModel, rows: Rows) -> list[Encoded]:
        """All rows with as many demonstrations before them as fit, the same for a whole edit."""
        encoded: dict[int, Encoded] = {}
        edit_of_row = rows.edit_index.tolist()
        for edit in sorted(set(edit_of_row)):
            own_rows = [row for row, number in enumerate(edit_of_row) if number == edit]
            texts = [rows.texts[row] for row in own_rows]
            encoded |= zip(own_rows, self._fit(model.max_positions, edit, texts), strict=True)
        return [encoded[row] for row in range(len(rows))]

    def _fit(self, limit: int, edit: int, texts: Sequence[RowText]) -> list[Encoded]:
        """The rows of an edit with the nearest demonstrations that fit before all of them."""
        shown = self.shown[edit]

        @cache
        def encoded(dropped: int) -> list[Encoded]:
            before = "".join(shown[dropped:]) + self.tail[edit]
            return [self._encode(text, before) for text in texts]

        def fits(dropped: int) -> bool:
            return max(len(row.ids) for row in encoded(dropped)) <= limit

        dropped = 0 if fits(0) else bisect_left(range(len(shown) + 1), True, key=fits)
        if dropped > len(shown):
            row, text = max(
                zip(encoded(len(shown)), texts, strict=True), key=lambda pair: len(pair[0].ids)
            )
            raise ModelError(
                f"the question {text.question!r} takes {len(row.ids)} tokens after its new fact "
                f"alone, and the model reads {limit}. Shorten the question, or leave the record "
                "out."
            )
        self.dropped[edit] = dropped
        if dropped:
            self.notice.give(len(shown) - dropped, len(shown))
        return encoded(dropped)

    def report(self) -> dict[str, list[float]]:
        """Per edit: demonstrations shown, and dropped because they did not fit."""
        dropped = [self.dropped.get(edit, 0) for edit in range(len(self.shown))]
        shown = [len(all_of) - gone for all_of, gone in zip(self.shown, dropped, strict=True)]
        return {
            "demonstrations_shown": [float(n) for n in shown],
            "demonstrations_dropped": [float(n) for n in dropped],
        }

    def _encode(self, text: RowText, before: str) -> Encoded:
        return self.encoder.encode(
            text.question,
            text.answer,
            picture=text.picture,
            plain=True,
            before=before,
            picture_first=self.picture == "front",
            generated=text.generated,
        )


class Notice:
    """Says once, and not for every edit, that demonstrations do not fit."""

    def __init__(self) -> None:
        self.given = False

    def give(self, shown: int, wanted: int) -> None:
        """An edit's rows were asked with `shown` of `wanted` demonstrations."""
        if not self.given:
            log.warning(
                "only %d of %d demonstrations fit into the model's context; the farthest are "
                "dropped, and the result says how many",
                shown,
                wanted,
            )
        self.given = True


class Ike:
    """Demonstrations instead of a change of weights.

    Args:
        encoder: the run's prompt function.
        retriever: finds training facts; None without demonstrations.
        k: number of demonstrations.
        own_copy: whether a copy demonstration of the edit stands last.
        picture: where the picture of the question asked stands.
        seed: of the demonstrations' types.
        sentences: finds the stored edit that a question is nearest to, where several are stored.
    """

    name = "ike"
    # Every token of a question depends on the demonstrations before it; the published code too
    # compares localities at the answers alone.
    compares_answers_only = True

    def __init__(
        self,
        encoder: PromptEncoder,
        retriever: Retriever | None,
        *,
        k: int,
        own_copy: bool = True,
        picture: PicturePlace = "question",
        seed: int = 0,
        sentences: Sentences | None = None,
    ) -> None:
        self.encoder, self.retriever, self.sentences = encoder, retriever, sentences
        self.k, self.own_copy, self.picture, self.seed = k, own_copy, picture, seed
        self.notice = Notice()

    def first_layer(self, model: EditableModel) -> int:
        """The last layer: no layer is edited, so as much as possible is shared."""
        return model.n_layers - 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> IkeEdit:
        """The demonstrations of every edit; the base model's state is not needed."""
        taught = [batch.rows.texts[row] for row in batch.edit_rows.tolist()]
        nearest: list[list[Record]] = [[] for _ in taught]
        if self.retriever is not None and self.k:
            nearest = self.retriever.nearest([fact(t.question, t.answer) for t in taught], self.k)
        shown, tail = [], []
        for text, records in zip(taught, nearest, strict=True):
            shown.append(tuple(context(records, text.question, text.answer, seed=self.seed)))
            copied = own(text.question, text.answer) if self.own_copy else ""
            tail.append(copied + stated(text.question, text.answer))
        return IkeEdit(
            tuple(shown),
            tuple(tail),
            self.encoder,
            self.notice,
            self.picture,
            questions=tuple(text.question for text in taught),
            sentences=self.sentences,
        )


def build(options: IkeOptions, model: EditableModel, inputs: EditorInputs) -> Ike:
    """The editor that the options describe; embeds the training facts."""
    sentences = Sentences(options.encoder, model.device)
    retriever = Retriever(sentences, inputs.training) if options.k else None
    return Ike(
        inputs.encoder,
        retriever,
        k=options.k,
        own_copy=options.own_copy,
        picture=options.picture,
        seed=options.seed,
        sentences=sentences,
    )
