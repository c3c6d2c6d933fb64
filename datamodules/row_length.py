"""Whether a row is one that the model reads: said of the record, before any weight is there.

Beyond a model's positions OPT ends in an index error and a Llama, whose positions are computed,
says something that it was never trained to say. So no such row is made.
"""

from __future__ import annotations

from datamodules.prompt_encoder import Encoded
from errors import DataError


def check_length(
    row: Encoded, limit: int | None, question: str, answer: str, *, before: str = ""
) -> None:
    """Refuses a row with more tokens than the model reads at once.

    Args:
        row: the question with its answer, its picture and what stands before it.
        limit: `PromptEncoder.max_positions`.
        question: for the message.
        answer: for the message.
        before: what stands before the question, for the message: `the prefix ...`.

    Raises:
        DataError: it is longer; says by how much, and what to do.
    """
    if limit is None or len(row.ids) <= limit:
        return
    pictures = f", {sum(row.slots)} of them its picture's" if any(row.slots) else ""
    what = f" after {before}" if before else ""
    raise DataError(
        f"the question {_shortened(question)!r} with its answer {_shortened(answer)!r}{what} takes "
        f"{len(row.ids)} tokens{pictures}, and the model reads {limit} at once "
        "(max_position_embeddings in its config.json). Shorten the question or the answer, leave "
        "the record out, or use a model that reads more."
    )


def _shortened(text: str, most: int = 120) -> str:
    """A long text by its two ends."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
