"""What a model answers before and after an edit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Probability:
    """How likely a whole answer is after the question: the product over its tokens, 0 to 1.

    Attributes:
        before: under the unedited model.
        after: under the edit.
    """

    answer: str
    before: float
    after: float


@dataclass(frozen=True)
class Answered:
    """A question, and both models' greedy answers.

    Attributes:
        text: what the edited model says.
        unedited: what the unedited model says.
        probabilities: of the unedited answer and of each new one, in this order; an answer that no
            token stands for has none.
    """

    question: str
    image: Path | None
    text: str
    unedited: str
    probabilities: tuple[Probability, ...]

    def __str__(self) -> str:
        return self.text
