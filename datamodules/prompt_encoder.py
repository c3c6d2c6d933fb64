"""The one place where a question, its answer and a picture become tokens.

Prompt and answer are tokenised as one string, so that no token straddles a seam that the model
never sees; the answer's tokens are found by character offsets. Picture slots are inserted in id
space, so a row with a picture has exactly the text tokens of the same row without it.

    default    `Question: {q} Short answer:` + ` {a}`
    published  the same with two spaces before the answer, as the TMKE authors' code writes it
    native     the model family's own chat form, with the picture where that form has it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from datamodules.mentions import mentions
from datamodules.text_tokens import Span, TextTokenizer
from errors import DataError, ModelError
from models.chat import PICTURE, QUESTION, ChatForm
from models.rows import TEXT_ONLY, Rows, RowText

PromptForm = Literal["default", "published", "native"]
TEMPLATES: dict[str, str] = {
    "default": "Question: {question} Short answer:",
    "published": "Question: {question} Short answer: ",
}
PLAIN = QUESTION
REMEMBERED = 4096  # rows; with LLaVA's 576 slots each takes some 25 KB


class Encoded(NamedTuple):
    """One row.

    Attributes:
        ids: its tokens.
        answer: which of them are answer.
        slots: which of them are picture slots.
        offsets: the characters of `text` that each stands for; (0, 0) for specials and slots.
        text: the whole string.
        question: the characters of the question in `text`, which has more before and after it.
    """

    ids: list[int]
    answer: list[bool]
    slots: list[bool]
    offsets: list[Span]
    text: str
    question: Span

    def with_picture(self, layout: PictureLayout, at: int) -> Encoded:
        """The same row with a picture in front of a token."""
        tokens = layout.tokens
        n = len(tokens)
        return self._replace(
            ids=[*self.ids[:at], *tokens, *self.ids[at:]],
            answer=[*self.answer[:at], *[False] * n, *self.answer[at:]],
            slots=[*self.slots[:at], *(i == layout.token_id for i in tokens), *self.slots[at:]],
            offsets=[*self.offsets[:at], *[(0, 0)] * n, *self.offsets[at:]],
        )

    def followed_by(self, tokens: Sequence[int]) -> Encoded:
        """A prompt alone with tokens as its answer."""
        n = len(tokens)
        return self._replace(
            ids=[*self.ids, *tokens],
            answer=[*self.answer, *[True] * n],
            slots=[*self.slots, *[False] * n],
            offsets=[*self.offsets, *[(0, 0)] * n],
        )

    def ended_by(self, token: int) -> Encoded:
        """The row up to its answer, a token more behind it as the answer's last one."""
        stop = len(self.answer) - self.answer[::-1].index(True)
        up_to_answer = self._replace(
            ids=self.ids[:stop],
            answer=self.answer[:stop],
            slots=self.slots[:stop],
            offsets=self.offsets[:stop],
        )
        return up_to_answer.followed_by([token])


_Key = tuple[str, str | None, bool, bool]  # question, answer, picture, plain


class Padded(NamedTuple):
    """Rows of one length: (R, T) ids, and (R, T) bool attention, answer and slot masks."""

    input_ids: Tensor
    attention_mask: Tensor
    answer_mask: Tensor
    image_slots: Tensor


@dataclass(frozen=True)
class PictureLayout:
    """Where a picture stands in a row.

    Attributes:
        slots: number of picture tokens.
        token_id: the id that fills them.
        before_bos: slots come before BOS (BLIP-2) and not right after it (LLaVA).
        ids: all tokens of a picture where others stand around and between its slots (Qwen2-VL:
            `<|vision_start|>` and `<|vision_end|>`); empty: slots alone.
    """

    slots: int
    token_id: int
    before_bos: bool = False
    ids: tuple[int, ...] = ()

    @property
    def tokens(self) -> list[int]:
        """A picture in a row."""
        return list(self.ids) or [self.token_id] * self.slots


class PromptEncoder:
    """Turns (question, answer, picture or not) into tokens, answer mask and picture slots.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed).
        layout: where a picture stands; None for a text-only model.
        form: the prompt's wording.
        chat: the family's native prompt, needed for `native`.
        padding_side: "right" or "left".
        max_positions: tokens that the model reads at once, to which rows of records are held
            (`datamodules.row_length`); None: not known.

    Attributes:
        end_id: the token that ends a generated answer; None where the tokenizer names none.

    Raises:
        ModelError: the tokenizer is a slow one, the family has no native prompt, or an unknown
            side.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: PictureLayout | None,
        *,
        form: PromptForm = "default",
        chat: ChatForm | None = None,
        padding_side: Literal["right", "left"] = "right",
        max_positions: int | None = None,
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} gives no character offsets, which find "
                "the answer's tokens. Save it as a fast tokenizer (tokenizer.json) and load that."
            )
        if padding_side not in ("right", "left"):
            raise ModelError(f"padding_side is {padding_side!r}; accepted: right, left.")
        if form == "native" and chat is None:
            raise ModelError(
                "data.prompt=native: the chat form of this model is not known. Of model=auto it is "
                "read from chat_template.json, chat_template.jinja or tokenizer_config.json beside "
                "the weights, where there has to be a template that takes a picture and a question "
                "(python -m models check tells). Use default or published, or put that file there."
            )
        self.tokenizer, self.layout = tokenizer, layout
        self.form, self.chat, self.padding_side = form, chat, padding_side
        self.max_positions = max_positions
        self.end_id: int | None = tokenizer.eos_token_id
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        special = chat.special if form == "native" and chat is not None else ()
        self._text = TextTokenizer(tokenizer, -1 if layout is None else layout.token_id, special)
        self._cache: dict[_Key, Encoded] = {}  # the one asked for last stands last

    def prompt(self, question: str, *, plain: bool = False) -> str:
        """The text before the answer; `plain` leaves the question as it is (text locality)."""
        template = PLAIN if plain else self.templates[0]
        return template.replace(QUESTION, question)

    @property
    def templates(self) -> tuple[str, str]:
        """The prompts of rows without and with a picture; braces mark what is put in."""
        if self.form == "native" and self.chat is not None:
            return self.chat.text, self.chat.picture
        return TEMPLATES[self.form], TEMPLATES[self.form]

    def encode(
        self,
        question: str,
        answer: str,
        *,
        picture: bool = False,
        plain: bool = False,
        before: str = "",
        picture_first: bool = False,
        generated: Sequence[int] = (),
        ended: bool = False,
    ) -> Encoded:
        """Tokenises one row.

        Args:
            question: goes into the template.
            answer: follows after one space, or at once where a chat form ends a line.
            picture: whether slots for a picture are put in: where the layout says, or right in
                front of the prompt when something stands before it.
            plain: the question stands without the template.
            before: text in front of the prompt (ROME's prefixes, IKE's demonstrations), with
                whatever separates the two.
            picture_first: the slots stand where the layout says although there is text in front.
            generated: tokens in place of the answer's own, while an answer is being generated.
                They follow the prompt as it is tokenised by itself, so that no token in front of
                them tells what the answer begins with.
            ended: the end token is the answer's last one; not while an answer is generated.

        Raises:
            DataError: the answer has no token of its own.
            ModelError: the tokenizer has no end token that an answer could end with.
        """
        asked = None if generated else answer
        if before:
            row = self._encode(question, asked, picture, plain, before, picture_first)
        else:
            row = self._remembered((question, asked, picture, plain))
        if generated:
            return row.followed_by(generated)
        return row.ended_by(self.end_of_target()) if ended else row

    def rows(
        self,
        encoded: Sequence[Encoded],
        texts: Sequence[RowText],
        *,
        edit_index: Sequence[int],
        image_index: Sequence[int] | None = None,
        pixel_values: Tensor | None = None,
    ) -> Rows:
        """Pads encoded rows to one length; those without an `image_index` show no picture."""
        text_only = [TEXT_ONLY] * len(encoded)
        return Rows(
            **self.pad(encoded)._asdict(),
            image_index=torch.tensor(text_only if image_index is None else image_index),
            pixel_values=pixel_values,
            edit_index=torch.tensor(edit_index),
            texts=tuple(texts),
        )

    def row_starts(self, encoded: Sequence[Encoded]) -> Tensor:
        """Where each row begins once they are padded together: (R,)."""
        lengths = torch.tensor([len(row.ids) for row in encoded])
        return lengths.max() - lengths if self.padding_side == "left" else torch.zeros_like(lengths)

    def pad(self, rows: Sequence[Encoded]) -> Padded:
        """Pads rows to the longest of them."""
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id)
        attention, answer, slots = (
            torch.zeros(len(rows), width, dtype=torch.bool) for _ in range(3)
        )
        for index, row in enumerate(rows):
            length = len(row.ids)
            columns = slice(0, length) if self.padding_side == "right" else slice(-length, None)
            ids[index, columns] = torch.tensor(row.ids)
            attention[index, columns] = True
            answer[index, columns] = torch.tensor(row.answer)
            slots[index, columns] = torch.tensor(row.slots)
        return Padded(ids, attention, answer, slots)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Answer tokens as text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def __getstate__(self) -> dict[str, Any]:
        """What another process gets: everything but the rows that this one remembers."""
        return self.__dict__ | {"_cache": {}}

    def end_of_target(self) -> int:
        """The end token, as the last one of a target.

        Raises:
            ModelError: the tokenizer names none.
        """
        if self.end_id is None:
            raise ModelError(
                "editor.teach_end=true: the tokenizer of this model names no end token (eos_token "
                "in its tokenizer_config.json), so an edit cannot be taught to end with it. Use "
                "editor.teach_end=false."
            )
        return self.end_id

    def _remembered(self, key: _Key) -> Encoded:
        """A row that was asked for lately, or a new one."""
        row = self._cache.pop(key, None) or self._encode(*key)
        self._cache[key] = row
        if len(self._cache) > REMEMBERED:
            del self._cache[next(iter(self._cache))]
        return row

    def _encode(
        self,
        question: str,
        answer: str | None,
        picture: bool,
        plain: bool,
        before: str = "",
        picture_first: bool = False,
    ) -> Encoded:
        """A row, or, without an answer, its prompt alone."""
        head, tail = self._around_picture(plain, picture and not picture_first)
        begin = len(before) + (head + tail).index(QUESTION)
        head, tail = head.replace(QUESTION, question), tail.replace(QUESTION, question)
        prompt = before + head + tail
        blank = self.form != "native" or self.chat is None or self.chat.blank or plain
        text = prompt if answer is None else f"{prompt}{' ' * blank}{answer.strip()}"
        inside = len(before + head) if head else 0  # characters before a picture inside the text
        ids, offsets, *inside_at = (
            self._text.read_around(text, inside) if inside else self._text.read(text)
        )
        while answer is None and len(ids) > 1 and not offsets[-1][1]:
            ids, offsets = ids[:-1], offsets[:-1]  # an end token comes after the answer
        first = first_of_answer(offsets, len(prompt), blank=blank)
        if answer is not None and first == len(ids):
            raise DataError(
                f"the answer {answer!r} to {question!r} tokenises to nothing, so no token of it "
                "can be scored. Correct the answer or leave the record out."
            )
        # Special tokens, an end token among them, stand for no characters.
        mask = [i >= first and end > 0 for i, (_, end) in enumerate(offsets)]
        row = Encoded(ids, mask, [False] * len(ids), offsets, text, (begin, begin + len(question)))
        if not picture:
            return row
        layout, at = self._picture_position(ids, offsets, 0 if picture_first else len(before))
        return row.with_picture(layout, *inside_at or [at])

    def _around_picture(self, plain: bool, picture: bool) -> tuple[str, str]:
        """The template before and after a picture inside it; nothing is before any other one."""
        text, shown = self.templates
        if plain or not picture or PICTURE not in shown:
            return "", PLAIN if plain else self._text.marked(text)
        head, _, tail = (self._text.marked(part) for part in shown.partition(PICTURE))
        return head, tail

    def _picture_position(
        self, ids: list[int], offsets: list[Span], prompt_start: int
    ) -> tuple[PictureLayout, int]:
        """How a picture stands in a row, and the token before which it does."""
        if self.layout is None:
            raise ModelError("a row shows a picture, and this model was loaded as text-only.")
        if prompt_start:
            return self.layout, next(i for i, (_, end) in enumerate(offsets) if end > prompt_start)
        begins_with_bos = bool(ids) and ids[0] == self.tokenizer.bos_token_id
        return self.layout, int(begins_with_bos and not self.layout.before_bos)


def first_of_answer(offsets: Sequence[Span], start: int, *, blank: bool = True) -> int:
    """The first token of an answer that a text has from a character on, one blank in front of it.

    It begins inside the answer, the blank included, or it begins before and holds more than the
    blank. Llama's `▁▁`, whose second blank is the answer's, is a token of the prompt. The number of
    tokens: none holds anything of the answer but its blank.
    """
    visible = start + blank
    if not any(end > visible for _, end in offsets):
        return len(offsets)
    return next(
        i for i, (a, b) in enumerate(offsets) if b > visible or (blank and b > start and a >= start)
    )


def locate_phrase(row: Encoded, phrase: str) -> tuple[int, int]:
    """First and last token of a phrase in the question of a row, its first mention as whole words.

    Args:
        row: from `PromptEncoder.encode`, so special tokens and picture slots are counted.
        phrase: a subject's name; case is respected where possible, and a part of a longer word is
            taken where there is nothing else.

    Raises:
        DataError: the question does not contain it.
    """
    begin, end = row.question
    question = row.text[begin:end]
    found = mentions(question, phrase, inside_words=True)
    if not found:
        raise DataError(
            f"the subject {phrase!r} does not occur in the question {question!r}, "
            "so its tokens cannot be found. Correct the record's subject or question."
        )
    start, stop = (begin + character for character in found[0])
    inside = [i for i, (a, b) in enumerate(row.offsets) if a < stop and b > start]
    return inside[0], inside[-1]
