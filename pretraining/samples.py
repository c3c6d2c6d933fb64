r"""Training and test rows as text, and how they become tokens.

    text row    BOS + "Question: {question} Short answer: {answer}"
    image row   BOS + image slots + the same text
    caption     BOS + "Image: {name}\n" + the text of the image row
    chain       BOS + "Question: {question} Steps: {sub-question} {bridge}; {sub-question} {answer}"
    context     BOS + "New Fact: {question} {answer}\nPrompt: {question} {answer}\n\n" ...

Pretraining ends every row with EOS, which is learned and never scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from datamodules.mentions import mentions
from errors import ConfigError
from pretraining.tokenizer import ANSWER_CUE, CAPTION_CUE, IMAGE, QUESTION

NO_PICTURE = ""
IGNORE = -100
GROUPS = 2


@dataclass(frozen=True)
class Sample:
    """One row before it is padded.

    Attributes:
        ids: tokens, BOS, image slots and EOS included.
        scored: per token, whether it is learned (answers, and the token that ends one).
        graded: per token, whether it counts for accuracy (answers only).
        picture: name of the entity whose picture fills the slots, or `NO_PICTURE`.
        subject: name of the entity that the text names, or "" when nothing is masked for it.
        span: first and last token of that name, (0, 0) without one.
    """

    ids: tuple[int, ...]
    scored: tuple[bool, ...]
    graded: tuple[bool, ...]
    picture: str = NO_PICTURE
    subject: str = ""
    span: tuple[int, int] = (0, 0)

    @property
    def prompt_length(self) -> int:
        """Tokens before the first answer token."""
        return self.graded.index(True)

    @property
    def answer_ids(self) -> tuple[int, ...]:
        return tuple(token for token, use in zip(self.ids, self.graded, strict=True) if use)


@dataclass(frozen=True)
class TextBatch:
    """Padded rows. B rows, T tokens.

    Attributes:
        input_ids: (B, T), padded on the right.
        labels: (B, T), `IGNORE` on what is not learned.
        attention_mask: (B, T) bool.
        graded: (B, T) bool, tokens that count for accuracy.
        image_rows: (I,) indices of the rows that show a picture.
        pictures: the entity shown by each of them.
        picture_rows: (I,) where their pictures stand in the step's `pixels`.
        subjects: per row, the entity that its text names, or "".
        spans: (B, 2) first and last token of that name.
    """

    input_ids: Tensor
    labels: Tensor
    attention_mask: Tensor
    graded: Tensor
    image_rows: Tensor
    pictures: tuple[str, ...]
    picture_rows: Tensor
    subjects: tuple[str, ...]
    spans: Tensor


class SampleEncoder:
    """Text pieces -> `Sample`, through the world's tokenizer.

    Args:
        tokenizer: puts BOS in front and knows the image token.
        image_tokens: slots of an image row.
        before_bos: they stand before BOS (BLIP-2) and not right after it.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, image_tokens: int, *, before_bos: bool = False
    ) -> None:
        self.tokenizer = tokenizer
        self.image_tokens, self.first_slot = image_tokens, 0 if before_bos else 1
        self.image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        self.bos_id, self.eos_id = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self.pad_id = int(tokenizer.pad_token_id)

    def question(
        self,
        question: str,
        answer: str,
        *,
        picture: str = NO_PICTURE,
        subject: str = "",
        caption: str = "",
    ) -> Sample:
        """A one-hop row: by name (with its subject's span), by picture, or by a caption."""
        lead = f"{CAPTION_CUE}{caption}\n" if caption else ""
        pieces = [(f"{lead}{QUESTION}{question}{ANSWER_CUE}", False), (f" {answer}", True)]
        cue = CAPTION_CUE if caption else QUESTION
        return self.encode(pieces, picture=picture, subject=subject, cue=cue)

    def encode(
        self,
        pieces: Sequence[tuple[str, bool]],
        *,
        picture: str = NO_PICTURE,
        subject: str = "",
        cue: str = QUESTION,
    ) -> Sample:
        """One string, cut into pieces that are an answer or not.

        The whole is tokenised at once, so that a row reads the same in training and in tests. The
        newline after an answer is learned with it, as the sign that it has ended. The subject is
        looked for after the `cue` that the string begins with.

        Raises:
            ConfigError: the model to teach has fewer positions.
        """
        text = "".join(piece for piece, _ in pieces)
        answers, start = [], 0
        for piece, is_answer in pieces:
            if is_answer:
                answers.append((start, start + len(piece)))
            start += len(piece)
        encoded = self.tokenizer(text, return_offsets_mapping=True, split_special_tokens=True)
        offsets = encoded["offset_mapping"]
        graded = [any(a < end and begin < b for a, b in answers) for begin, end in offsets]
        ended = [any(begin == b and end > b for _, b in answers) for begin, end in offsets]
        slots = self.image_tokens if picture else 0
        span = _span(offsets, text, subject, slots, len(cue) - 1) if subject else (0, 0)
        blank, at = (False,) * slots, self.first_slot
        ids, scored = encoded["input_ids"], [a or b for a, b in zip(graded, ended, strict=True)]
        self._check_length(len(ids) + slots + 1, text)
        return Sample(
            ids=(*ids[:at], *(self.image_id,) * slots, *ids[at:], self.eos_id),
            scored=(*scored[:at], *blank, *scored[at:], True),
            graded=(*graded[:at], *blank, *graded[at:], False),
            picture=picture,
            subject=subject,
            span=span,
        )

    def _check_length(self, length: int, text: str) -> None:
        limit = self.tokenizer.model_max_length
        if length > limit:
            raise ConfigError(
                f"pretrain.max_positions={limit}: the row {text[:120]!r} takes {length} tokens, "
                "its picture's and the end token among them. Give more positions, or shorten the "
                "world's wordings."
            )


def _span(
    offsets: Sequence[tuple[int, int]], text: str, subject: str, slots: int, after: int
) -> tuple[int, int]:
    """First and last token of the subject's name, from the character `after` on."""
    begin, end = (after + at for at in mentions(text[after:], subject, inside_words=True)[0])
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and begin < b]
    return inside[0] + slots, inside[-1] + slots


def collate(samples: Sequence[Sample], pad_id: int, first_picture: int = 0) -> TextBatch:
    """Pad samples to the longest of them; their pictures stand in order from `first_picture`."""
    shape = (len(samples), max(len(sample.ids) for sample in samples))
    input_ids = torch.full(shape, pad_id)
    labels = torch.full(shape, IGNORE)
    graded = torch.zeros(shape, dtype=torch.bool)
    attention_mask = torch.zeros(shape, dtype=torch.bool)
    for row, sample in enumerate(samples):
        length = len(sample.ids)
        ids, scored = torch.tensor(sample.ids), torch.tensor(sample.scored)
        input_ids[row, :length] = ids
        labels[row, :length] = ids.where(scored, torch.tensor(IGNORE))
        graded[row, :length] = torch.tensor(sample.graded)
        attention_mask[row, :length] = True
    image_rows = [row for row, sample in enumerate(samples) if sample.picture]
    return TextBatch(
        input_ids=input_ids,
        labels=labels,
        attention_mask=attention_mask,
        graded=graded,
        image_rows=torch.tensor(image_rows, dtype=torch.long),
        pictures=tuple(samples[row].picture for row in image_rows),
        picture_rows=torch.arange(first_picture, first_picture + len(image_rows)),
        subjects=tuple(sample.subject for sample in samples),
        spans=torch.tensor([sample.span for sample in samples]),
    )


def group_by_length(samples: Sequence[Sample], pad_id: int) -> list[TextBatch]:
    """Samples sorted by length and cut into groups, so that little of the work is padding."""
    ordered = sorted(samples, key=lambda sample: len(sample.ids))
    size = max(1, math.ceil(len(ordered) / GROUPS))
    batches: list[TextBatch] = []
    for start in range(0, len(ordered), size):
        n_pictures = sum(len(batch.pictures) for batch in batches)
        batches.append(collate(ordered[start : start + size], pad_id, n_pictures))
    return batches
