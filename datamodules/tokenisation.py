"""The one place where a question, its answer and a picture become tokens.

Prompt and answer are tokenised as one string, so that no token straddles a seam that the model
never sees; the answer's tokens are found by character offsets. Picture slots are inserted in id
space, so a row with a picture has exactly the text tokens of the same row without it.

    default    `Question: {q} Short answer:` + ` {a}`
    published  the same with two spaces before the answer, as the TMKE authors' code writes it
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from errors import DataError, ModelError

PromptForm = Literal["default", "published"]
TEMPLATES: dict[PromptForm, str] = {
    "default": "Question: {question} Short answer:",
    "published": "Question: {question} Short answer: ",
}
PLAIN = "{question}"


class Encoded(NamedTuple):
    """One row: token ids, which of them are answer, which are picture slots (equal lengths)."""

    ids: list[int]
    answer: list[bool]
    slots: list[bool]


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
    """

    slots: int
    token_id: int
    before_bos: bool = False


class PromptEncoder:
    """Turns (question, answer, picture or not) into tokens, answer mask and picture slots.

    Args:
        tokenizer: a fast tokenizer (character offsets are needed).
        layout: where a picture stands; None for a text-only model.
        form: the prompt's wording.
        padding_side: "right" or "left".

    Raises:
        ModelError: the tokenizer is a slow one, or an unknown side.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        layout: PictureLayout | None,
        *,
        form: PromptForm = "default",
        padding_side: Literal["right", "left"] = "right",
    ) -> None:
        if not tokenizer.is_fast:
            raise ModelError(
                f"the tokenizer {type(tokenizer).__name__} gives no character offsets, which find "
                "the answer's tokens. Save it as a fast tokenizer (tokenizer.json) and load that."
            )
        if padding_side not in ("right", "left"):
            raise ModelError(f"padding_side is {padding_side!r}; accepted: right, left.")
        self.tokenizer, self.layout = tokenizer, layout
        self.form, self.padding_side = form, padding_side
        self.pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._cache: dict[tuple[str, str, bool, bool], Encoded] = {}

    def prompt(self, question: str, *, plain: bool = False) -> str:
        """The text before the answer; `plain` leaves the question as it is (text locality)."""
        return (PLAIN if plain else TEMPLATES[self.form]).format(question=question)

    def encode(
        self, question: str, answer: str, *, picture: bool = False, plain: bool = False
    ) -> Encoded:
        """Tokenises one row.

        Raises:
            DataError: the answer has no token of its own.
        """
        key = (question, answer, picture, plain)
        if key not in self._cache:
            self._cache[key] = self._encode(*key)
        return self._cache[key]

    def pad(self, rows: Sequence[Encoded]) -> Padded:
        """Pads rows to the longest of them."""
        width = max(len(row.ids) for row in rows)
        ids = torch.full((len(rows), width), self.pad_id)
        attention, answer, slots = (
            torch.zeros(len(rows), width, dtype=torch.bool) for _ in range(3)
        )
        for index, row in enumerate(rows):
            length = len(row.ids)
            place = slice(0, length) if self.padding_side == "right" else slice(-length, None)
            ids[index, place] = torch.tensor(row.ids)
            attention[index, place] = True
            answer[index, place] = torch.tensor(row.answer)
            slots[index, place] = torch.tensor(row.slots)
        return Padded(ids, attention, answer, slots)

    def decode(self, ids: Sequence[int] | Tensor) -> str:
        """Answer tokens as text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def _encode(self, question: str, answer: str, picture: bool, plain: bool) -> Encoded:
        prompt = self.prompt(question, plain=plain)
        output = self.tokenizer(f"{prompt} {answer.strip()}", return_offsets_mapping=True)
        ids, offsets = list(output["input_ids"]), output["offset_mapping"]
        start = len(prompt)  # the leading space belongs to the answer
        mask = [end > max(start, begin) for begin, end in offsets]  # specials have (0, 0)
        if not any(end > start + 1 for _, end in offsets):
            raise DataError(
                f"the answer {answer!r} to {question!r} tokenises to nothing, so no token of it "
                "can be scored. Correct the answer or leave the record out."
            )
        slots = [False] * len(ids)
        if picture:
            ids, mask, slots = self._with_picture(ids, mask)
        return Encoded(ids, mask, slots)

    def _with_picture(
        self, ids: list[int], mask: list[bool]
    ) -> tuple[list[int], list[bool], list[bool]]:
        if self.layout is None:
            raise ModelError("a row shows a picture, and this model was loaded as text-only.")
        begins_with_bos = bool(ids) and ids[0] == self.tokenizer.bos_token_id
        at = 1 if begins_with_bos and not self.layout.before_bos else 0
        count = self.layout.slots
        return (
            ids[:at] + [self.layout.token_id] * count + ids[at:],
            mask[:at] + [False] * count + mask[at:],
            [False] * at + [True] * count + [False] * (len(ids) - at),
        )
