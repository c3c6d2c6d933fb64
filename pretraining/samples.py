r"""Training and test rows as text, and how they become tokens.

    text row    BOS + "Question: {question} Short answer: {answer}"
    image row   BOS + image slots + the same text
    chain       BOS + "Question: {question} Steps: {sub-question} {bridge}; {sub-question} {answer}"
    context     BOS + "New Fact: {question} {answer}\nPrompt: {question} {answer}\n\n" ...

Pretraining ends every row with EOS, which is learned and never scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerFast

from pretraining.tokenizer import IMAGE

NO_PICTURE = ""
QUESTION, ANSWER_CUE, STEPS_CUE = "Question: ", " Short answer:", " Steps:"
FACT_CUE, PROMPT_CUE = "New Fact: ", "Prompt: "


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
        """The tokens that count."""
        return tuple(token for token, use in zip(self.ids, self.graded, strict=True) if use)


class Encoder:
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
        self.image_tokens, self.place = image_tokens, 0 if before_bos else 1
        self.image_id = int(tokenizer.convert_tokens_to_ids(IMAGE))
        self.bos_id, self.eos_id = int(tokenizer.bos_token_id), int(tokenizer.eos_token_id)
        self.pad_id = int(tokenizer.pad_token_id)

    def question(
        self, question: str, answer: str, *, picture: str = NO_PICTURE, subject: str = ""
    ) -> Sample:
        """A one-hop row, by name (with its subject's span) or by picture."""
        pieces = [(f"{QUESTION}{question}{ANSWER_CUE}", False), (f" {answer}", True)]
        return self.encode(pieces, picture=picture, subject=subject)

    def chain(self, question: str, steps: Sequence[tuple[str, str]]) -> Sample:
        """A two-hop question worked out: every step is a one-hop question with its answer."""
        worked_out = "; ".join(f"{sub_question} {answer}" for sub_question, answer in steps)
        return self.encode([(f"{QUESTION}{question}{STEPS_CUE}", False), (f" {worked_out}", True)])

    def encode(
        self,
        pieces: Sequence[tuple[str, bool]],
        *,
        picture: str = NO_PICTURE,
        subject: str = "",
    ) -> Sample:
        """One string, cut into pieces that are an answer or not.

        The whole is tokenised at once, so that a row reads the same in training and in tests. The
        newline after an answer is learned with it, as the sign that it has ended.
        """
        text = "".join(piece for piece, _ in pieces)
        answers, start = [], 0
        for piece, is_answer in pieces:
            if is_answer:
                answers.append((start, start + len(piece)))
            start += len(piece)
        encoded = self.tokenizer(text, return_offsets_mapping=True)
        offsets = encoded["offset_mapping"]
        graded = [any(a < end and begin < b for a, b in answers) for begin, end in offsets]
        ended = [any(begin == b and end > b for _, b in answers) for begin, end in offsets]
        slots = self.image_tokens if picture else 0
        span = _span(offsets, text, subject, slots) if subject else (0, 0)
        blank, at = (False,) * slots, self.place
        ids, scored = encoded["input_ids"], [a or b for a, b in zip(graded, ended, strict=True)]
        return Sample(
            ids=(*ids[:at], *(self.image_id,) * slots, *ids[at:], self.eos_id),
            scored=(*scored[:at], *blank, *scored[at:], True),
            graded=(*graded[:at], *blank, *graded[at:], False),
            picture=picture,
            subject=subject,
            span=span,
        )


def _span(
    offsets: Sequence[tuple[int, int]], text: str, subject: str, slots: int
) -> tuple[int, int]:
    """First and last token of the subject's name in the question."""
    begin = text.index(subject, len(QUESTION) - 1)
    end = begin + len(subject)
    inside = [i for i, (a, b) in enumerate(offsets) if a < end and begin < b]
    return inside[0] + slots, inside[-1] + slots
