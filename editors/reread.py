"""Rows asked once more with other text before their questions: more tokens, the same answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datamodules.prompt_encoder import Encoded, PromptEncoder
from errors import ModelError
from models.rows import Answers, Rows, last_tokens


def reread(
    encoder: PromptEncoder, encoded: Sequence[Encoded], rows: Rows, at: Answers
) -> tuple[Rows, Answers]:
    """The longer rows, and where their answer tokens stand.

    Args:
        encoder: the run's prompt function.
        encoded: each row's text with what stands before it.
        rows: the rows as they were asked first; pictures and their features are taken over.
        at: positions of `rows`: those that predict answers, or any.

    Returns:
        The new rows, and `at` with the new positions, counted from the rows' ends.

    Raises:
        ModelError: an answer's tokens depend on what stands before the question.
    """
    longer = encoder.rows(
        encoded,
        rows.texts,
        edit_index=rows.edit_index.tolist(),
        image_index=rows.image_index.tolist(),
    ).to(rows.input_ids.device)
    longer = longer.showing(rows)
    shift = last_tokens(longer) - last_tokens(rows)  # rows end alike
    moved = replace(at, position=at.position + shift[at.row])
    following = (at.position + 1).clamp(max=rows.input_ids.shape[1] - 1)
    of_answers = rows.answer_mask[at.row, following] & (following > at.position)
    last = longer.input_ids.shape[1] - 1
    read = longer.input_ids[moved.row, (moved.position + 1).clamp(max=last)]
    if bool((differs := of_answers & (read != at.target)).any()):
        wrong = rows.texts[int(at.row[differs][0])]
        raise ModelError(
            f"the answer {wrong.answer!r} to {wrong.question!r} has other tokens after a longer "
            "text than after the plain prompt, so the two cannot be compared. Choose another "
            "prompt form (data.prompt)."
        )
    return longer, moved
