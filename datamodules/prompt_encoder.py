"""The one place where a question, its answer and a picture become tokens.

Prompt and answer are tokenised as one string, so that no token straddles a seam that the model
never sees; the answer's tokens are found by character offsets. Picture slots are inserted in id
space, so a row with a picture has exactly the text tokens of the same row without it.

    default    `Question: {q} Short answer:` + ` {a}`
    published  the same with two spaces before the answer, as the TMKE authors' code writes it
    native     the model family's own chat form, with the picture where that form has it
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from errors import DataError, ModelError
from models.chat import PICTURE, ChatForm
from models.rows import TEXT_ONLY, Rows, RowText

Span = tuple[int, int]  # first character of a text and the one after the last
PromptForm = Literal["default", "published", "native"]
TEMPLATES: dict[str, str] = {
    "default": "Question: {question} Short answer:",
    "published": "Question: {question} Short answer: ",
}
PLAIN = "{question}"


class Encoded(NamedTuple):
    """One row.

    Attributes:
        ids: its tokens.
        answer: which of them are answer.
        slots: which of them are picture slots.
        offsets: the characters of `text` that each stands for; (0, 0) for specials and slots.
        text: the whole string.
        prompt_start: where in `text` the prompt begins, after any text in front of it.
    """

    ids: list[int]
    answer: list[bool]
    slots: list[bool]
    offsets: list[Span]
    text: str
    prompt_start: int

    def with_answer(self, tokens: Sequence[int]) -> Encoded:
        """The same prompt with other tokens in place of the answer; `text` keeps the answer."""
        start, n = self.answer.index(True), len(tokens)
        return self._replace(
            ids=[*self.ids[:start], *tokens],
            answer=[*self.answer[:start], *[True] * n],
            slots=[*self.slots[:start], *[False] * n],
            offsets=[*self.offsets[:start], *[(0, 0)] * n],
        )


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
                "data.prompt=native: the chat form of this model is not known here. Use default or "
                "published, or one of the families blip2, llava and minigpt4."
            )
        self.tokenizer, self.layout = tokenizer, layout
        self.form, self.chat, self.padding_side = form, chat, padding_side
        self.max_positions = max_positions
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._cache: dict[tuple[str, str, bool, bool], Encoded] = {}

    def prompt(self, question: str, *, plain: bool = False) -> str:
        """The text before the answer; `plain` leaves the question as it is (text locality)."""
        template = PLAIN if plain else self.templates[0]
        return template.replace("{question}", question)

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
    ) -> Encoded:
        """Tokenises one row.

        Args:
            question: goes into the template.
            answer: follows after one space.
            picture: whether slots for a picture are put in: where the layout says, or right in
                front of the prompt when something stands before it.
            plain: the question stands without the template.
            before: text in front of the prompt (ROME's prefixes, IKE's demonstrations), with
                whatever separates the two.
            picture_first: the slots stand where the layout says although there is text in front.
            generated: tokens in place of the answer's own, while an answer is being generated.

        Raises:
            DataError: the answer has no token of its own.
        """
        if before:
            row = self._encode(question, answer, picture, plain, before, picture_first)
        else:
            key = (question, answer, picture, plain)
            if key not in self._cache:
                self._cache[key] = self._encode(*key)
            row = self._cache[key]
        return row.with_answer(generated) if generated else row

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

    def _encode(
        self,
        question: str,
        answer: str,
        picture: bool,
        plain: bool,
        before: str = "",
        picture_first: bool = False,
    ) -> Encoded:
        head, tail = self._around_picture(question, plain, picture and not picture_first)
        prompt = before + head + tail
        text = f"{prompt} {answer.strip()}"
        inside = len(before + head) if head else 0  # characters before a picture inside the text
        ids, offsets, at_inside = self._tokenise_around(text, inside)
        start = len(prompt)  # the leading space belongs to the answer
        mask = [end > max(start, begin) for begin, end in offsets]  # specials have (0, 0)
        if not any(end > start + 1 for _, end in offsets):
            raise DataError(
                f"the answer {answer!r} to {question!r} tokenises to nothing, so no token of it "
                "can be scored. Correct the answer or leave the record out."
            )
        if not picture:
            return Encoded(ids, mask, [False] * len(ids), offsets, text, len(before))
        layout, at = self._picture_position(ids, offsets, 0 if picture_first else len(before))
        at, tokens = at_inside if inside else at, layout.tokens
        return Encoded(
            ids[:at] + tokens + ids[at:],
            mask[:at] + [False] * len(tokens) + mask[at:],
            [False] * at + [i == layout.token_id for i in tokens] + [False] * (len(ids) - at),
            offsets[:at] + [(0, 0)] * len(tokens) + offsets[at:],
            text,
            len(before),
        )

    def _around_picture(self, question: str, plain: bool, picture: bool) -> tuple[str, str]:
        """The prompt before and after a picture inside it; nothing is before any other picture."""
        _, template = self.templates
        if plain or not picture or PICTURE not in template:
            return "", self.prompt(question, plain=plain)
        head, _, tail = template.partition(PICTURE)
        return head.replace("{question}", question), tail.replace("{question}", question)

    def _tokenise_around(self, text: str, inside: int) -> tuple[list[int], list[Span], int]:
        """Ids, their characters, and the token before which a picture inside the text stands.

        No token joins what comes before and after such a picture. Where the vocabulary has an image
        token it stands between the two, as in the family's own processor (LLaVA); elsewhere they
        are tokenised apart, as MiniGPT-4's code does it.
        """
        if not inside:
            return *self._tokenise(text), 0
        token = -1 if self.layout is None else self.layout.token_id
        mark = self.tokenizer.convert_ids_to_tokens(token) if token >= 0 else None
        if mark is None:
            ids, offsets = self._tokenise(text[:inside])
            after, spans = self._tokenise(text[inside:], special=False)
            return ids + after, offsets + [(a + inside, b + inside) for a, b in spans], len(ids)
        ids, offsets = self._tokenise(text[:inside] + mark + text[inside:])
        end = inside + len(mark)
        at = offsets.index((inside, end))
        before, after_mark = offsets[:at], offsets[at + 1 :]
        moved = [(a - len(mark), b - len(mark)) if b else (a, b) for a, b in after_mark]
        return ids[:at] + ids[at + 1 :], before + moved, at

    def _tokenise(self, text: str, *, special: bool = True) -> tuple[list[int], list[Span]]:
        """Ids of a text and the characters of each; specials stand for none, (0, 0)."""
        output = self.tokenizer(text, return_offsets_mapping=True, add_special_tokens=special)
        return list(output["input_ids"]), [(a, b) for a, b in output["offset_mapping"]]

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


def locate_phrase(row: Encoded, phrase: str) -> tuple[int, int]:
    """First and last token of a phrase in the prompt of a row, its first mention as whole words.

    Args:
        row: from `PromptEncoder.encode`, so special tokens and picture slots are counted.
        phrase: a subject's name; case is respected where possible.

    Raises:
        DataError: the prompt does not contain it.
    """
    end = min(a for (a, _), answer in zip(row.offsets, row.answer, strict=True) if answer)
    for flags in (0, re.IGNORECASE):
        for pattern in (rf"(?<!\w){re.escape(phrase)}(?!\w)", re.escape(phrase)):
            match = re.compile(pattern, flags).search(row.text, row.prompt_start, end)
            if match is not None:
                start, stop = match.span()
                inside = [i for i, (a, b) in enumerate(row.offsets) if a < stop and b > start]
                return inside[0], inside[-1]
    prompt = row.text[row.prompt_start : end]
    raise DataError(
        f"the subject {phrase!r} does not occur in the prompt {prompt!r}, "
        "so its tokens cannot be found. Correct the record's subject or question."
    )
