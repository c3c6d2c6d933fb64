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

The paper states one fact. An edit that is taught in text and by a picture states the fact in both
wordings, under the demonstrations that are nearest to the first. Where edits follow on each other,
all are stored, and each question is asked under the stored edit that its words are nearest to, as
if that were the only one.
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
from datamodules.row_length import check_length, may_exceed
from editors.base import EditorInputs, Lasting
from editors.ike.config import IkeOptions
from editors.ike.demonstrations import demonstrate, demonstrate_edit, state_facts
from editors.ike.retrieval import Retriever, Sentences, fact, nearest_stored
from editors.reread import reread
from editors.turn import Turn
from models.context import answer_with_shared_prefix
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows, RowText

log = logging.getLogger(__name__)
AFTER = "its new fact alone"  # what is left before a question that has no room for more


@dataclass(frozen=True)
class IkeEdit:
    """What the model reads before the questions of B edits.

    Attributes:
        demonstrations: per edit, those that may be dropped, farthest first.
        statements: per edit, what always stands before a question: its own copy demonstrations and
            the new fact.
        questions: those that teach the edits, one of each edit or more.
        owner: per question the edit that it teaches.
        dropped: edit -> demonstrations left out, known once the edit has answered.
        stored: whether a question is asked under the edit nearest to it, and not under its row's.
    """

    editor: Ike
    demonstrations: tuple[tuple[str, ...], ...] = ()
    statements: tuple[str, ...] = ()
    questions: tuple[str, ...] = ()
    owner: tuple[int, ...] = ()
    dropped: dict[int, int] = field(default_factory=dict, compare=False)
    stored: bool = False

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens with each row's demonstrations before it.

        Raises:
            DataError: a question does not fit into the context even without demonstrations.
            ModelError: an answer's tokens depend on what stands before the question.
        """
        rows = self._under_nearest(rows) if self.stored else rows
        longer, moved = reread(self.editor.encoder, self._encode_rows(model, rows), rows, at)
        group = rows.edit_index
        if self.editor.options.picture == "front":
            pairs = torch.stack([rows.edit_index, rows.image_index], 1)
            group = pairs.unique(dim=0, return_inverse=True)[1]
        return answer_with_shared_prefix(model, longer, moved, group=group)

    def after(self, earlier: IkeEdit | None) -> IkeEdit:
        """All edits stored side by side."""
        before = IkeEdit(self.editor) if earlier is None else earlier
        return IkeEdit(
            self.editor,
            before.demonstrations + self.demonstrations,
            before.statements + self.statements,
            before.questions + self.questions,
            before.owner + tuple(len(before.statements) + edit for edit in self.owner),
            stored=True,
        )

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """Nothing: the base model is never edited."""
        return nullcontext()

    def anew(self) -> IkeEdit:
        """The same edit with nothing dropped yet."""
        return replace(self, dropped={})

    def report(self) -> dict[str, list[float]]:
        """Per edit: demonstrations shown, and dropped because they did not fit."""
        dropped = [self.dropped.get(edit, 0) for edit in range(len(self.demonstrations))]
        pairs = zip(self.demonstrations, dropped, strict=True)
        return {
            "demonstrations_shown": [float(len(texts) - gone) for texts, gone in pairs],
            "demonstrations_dropped": [float(gone) for gone in dropped],
        }

    def room(self, model: EditableModel, rows: Rows) -> list[int]:
        """Tokens by which each row may grow behind the demonstrations that it was shown."""
        rows = self._under_nearest(rows) if self.stored else rows
        lengths = [len(row.ids) for row in self._encode_rows(model, rows)]
        return [model.max_positions - length for length in lengths]

    def _under_nearest(self, rows: Rows) -> Rows:
        """The rows, each under the stored edit whose own question its question is nearest to."""
        if len(self.demonstrations) == 1:
            return replace(rows, edit_index=torch.zeros_like(rows.edit_index))
        if self.editor.sentences is None:
            raise ValueError("a sentence encoder is needed to choose among several stored edits")
        questions = [text.question for text in rows.texts]
        nearest = nearest_stored(self.editor.sentences, self.questions, questions)
        edits = [self.owner[question] for question in nearest]
        return replace(rows, edit_index=rows.edit_index.new_tensor(edits))

    def _encode_rows(self, model: EditableModel, rows: Rows) -> list[Encoded]:
        """All rows with as many demonstrations before them as fit, the same for a whole edit."""
        encoded: dict[int, Encoded] = {}
        edit_of_row = rows.edit_index.tolist()
        for edit in sorted(set(edit_of_row)):
            its_rows = [row for row, number in enumerate(edit_of_row) if number == edit]
            texts = [rows.texts[row] for row in its_rows]
            encoded |= zip(its_rows, self._fit(model.max_positions, edit, texts), strict=True)
        return [encoded[row] for row in range(len(rows))]

    def _fit(self, limit: int, edit: int, texts: Sequence[RowText]) -> list[Encoded]:
        """The rows of an edit with the nearest demonstrations that fit before all of them.

        Rows of an edit that were asked before have left theirs: no row is shown more than they.
        """
        demonstrations = self.demonstrations[edit]

        @cache
        def encoded(dropped: int) -> list[Encoded]:
            before = "".join(demonstrations[dropped:]) + self.statements[edit]
            return [self.editor.encode(text, before) for text in texts]

        def fits(dropped: int) -> bool:
            return max(len(row.ids) for row in encoded(dropped)) <= limit

        k = len(demonstrations)
        # A part of the rows, and an answer that goes on, stand behind what all rows stood behind.
        goes_on = not self.stored or any(text.generated for text in texts)
        least = self.dropped.get(edit, 0) if goes_on else 0
        dropped = least if fits(least) else bisect_left(range(k + 1), True, least + 1, key=fits)
        if dropped > k:
            for row, text in zip(encoded(k), texts, strict=True):
                check_length(row, limit, text.question, text.answer, before=AFTER)
        self.dropped[edit] = dropped
        if dropped:
            self.editor.warn_of_dropped(k - dropped, k)
        return encoded(dropped)


class Ike:
    """Demonstrations instead of a change of weights.

    Args:
        retriever: finds training facts; None without demonstrations.
        sentences: finds the stored edit that a question is nearest to, where several are stored.
    """

    name = "ike"
    # Every token of a question depends on the demonstrations before it; the published code too
    # compares localities at the answers alone.
    compares_answers_only = True

    def __init__(
        self,
        options: IkeOptions,
        encoder: PromptEncoder,
        retriever: Retriever | None,
        sentences: Sentences | None = None,
    ) -> None:
        self.options, self.encoder = options, encoder
        self.retriever, self.sentences = retriever, sentences
        self._warned = False

    def first_layer(self, model: EditableModel) -> int:
        """The last layer: no layer is edited, so as much as possible is shared."""
        return model.n_layers - 1

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> IkeEdit:
        """The demonstrations of every edit; the base model's state is not needed."""
        owner = batch.rows.edit_index[batch.edit_rows].tolist()
        facts: list[list[tuple[str, str]]] = [[] for _ in range(len(batch))]
        for edit, row in zip(owner, batch.edit_rows.tolist(), strict=True):
            facts[edit].append(batch.rows.texts[row][:2])
        nearest: list[list[Record]] = [[] for _ in facts]
        if self.retriever is not None and self.options.k:
            first = [fact(*of_edit[0]) for of_edit in facts]
            nearest = self.retriever.nearest(first, self.options.k)
        demonstrations = [
            tuple(demonstrate(records, *of_edit[0], seed=self.options.seed))
            for of_edit, records in zip(facts, nearest, strict=True)
        ]
        return IkeEdit(
            self,
            tuple(demonstrations),
            tuple(self._statement(of_edit) for of_edit in facts),
            tuple(question for of_edit in facts for question, _ in of_edit),
            tuple(owner),
        )

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> IkeEdit:
        """All edits stored side by side, in their order."""
        update = IkeEdit(self, stored=True)
        for batch, state in turn:
            update = self.edit(model, batch, state).after(update)
        return update

    def check_lengths(self, edit: Sequence[RowText], asked: Sequence[RowText]) -> None:
        """Refuses an edit some of whose questions do not fit even without demonstrations.

        Raises:
            DataError: naming the question, its tokens and the model's.
        """
        before, limit = self._statement([text[:2] for text in edit]), self.encoder.max_positions
        for text in asked:
            if may_exceed(self.encoder, limit, before, text.question, text.answer):
                row = self.encode(text, before)
                check_length(row, limit, text.question, text.answer, before=AFTER)

    def _statement(self, facts: Sequence[tuple[str, str]]) -> str:
        """What always stands before the questions of an edit, of its questions and answers."""
        copied = [demonstrate_edit(*pair) for pair in facts] if self.options.own_copy else []
        return "".join(copied) + state_facts(facts)

    def encode(self, text: RowText, before: str) -> Encoded:
        """A row with a text before its question."""
        plain, first = text._replace(plain=True), self.options.picture == "front"
        return self.encoder.encode(**plain.tokens, before=before, picture_first=first)

    def warn_of_dropped(self, fit: int, k: int) -> None:
        """Says once, and not for every edit, that demonstrations do not fit."""
        if not self._warned:
            log.warning(
                "only %d of %d demonstrations fit into the model's context; the farthest are "
                "dropped, and the result says how many",
                fit,
                k,
            )
        self._warned = True


def build(options: IkeOptions, model: EditableModel, inputs: EditorInputs) -> Ike:
    """The editor that the options describe; embeds the training facts."""
    sentences = Sentences(options.encoder, model.device)
    retriever = Retriever(sentences, inputs.training) if options.k else None
    return Ike(options, inputs.encoder, retriever, sentences)
