"""Whether a row is one that the model reads: said of the record, before any weight is there.

Beyond a model's positions OPT ends in an index error and a Llama, whose positions are computed,
says something that it was never trained to say. So no such row is made.
"""

from __future__ import annotations

from datamodules.prompt_encoder import Encoded, PromptEncoder
from errors import DataError

_MORE = 64  # special tokens, and what stands between texts


def check_length(
    row: Encoded,
    limit: int | None,
    question: str,
    answer: str,
    *,
    before: str = "",
    reader: str = "the model",
) -> None:
    """Refuses a row with more tokens than the model reads at once.

    Args:
        row: the question with its answer, its picture and what stands before it.
        limit: `PromptEncoder.max_positions`, or another model's.
        question: for the message.
        answer: for the message.
        before: what stands before the question, for the message.
        reader: which model, for the message.

    Raises:
        DataError: it is longer; says by how much, and what to do.
    """
    if limit is None or len(row.ids) <= limit:
        return
    pictures = f", {sum(row.slots)} of them its picture's" if any(row.slots) else ""
    what = f" after {before}" if before else ""
    raise DataError(
        f"the question {_shortened(question)!r} with its answer {_shortened(answer)!r}{what} takes "
        f"{len(row.ids)} tokens{pictures}, and {reader} reads {limit} at once "
        "(max_position_embeddings in its config.json). Shorten the question or the answer, leave "
        "the record out, or use a model that reads more."
    )


def may_exceed(encoder: PromptEncoder, limit: int | None, *texts: str) -> bool:
    """Whether a row of some texts may be longer than a limit: no token is less than a byte.

    Spares the records of a large set from being tokenised behind every text that may stand before
    them.
    """
    slots = 0 if encoder.layout is None else len(encoder.layout.tokens)
    written = (*texts, max(encoder.templates, key=len))
    most = sum(len(text.encode("utf-8", "surrogatepass")) for text in written) + slots + _MORE
    return limit is not None and most > limit


def _shortened(text: str, most: int = 120) -> str:
    """A long text by its two ends."""
    return text if len(text) <= most else f"{text[: most // 2]} ... {text[-most // 2 :]}"
