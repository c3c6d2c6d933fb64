"""Which edits are of facts that the unedited model knows; an edit of any other means little."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from torch import Tensor

from datamodules.collate import RowTable
from datamodules.records import NumberedRecord
from datamodules.scenarios import Prompt, true_questions
from models.rows import Rows

Knows = Callable[[Rows], Tensor]
_ROWS_AT_ONCE = 256
_RECORDS_AT_ONCE = 16


@dataclass(frozen=True)
class KnownFacts:
    """How many facts of a split the unedited model knows, in text and on the pictures used.

    Attributes:
        kept: records of which it knows everything.
        candidates: records that it was asked about.
        unknown_in_text: those of which it does not know a text question.
        unknown_on_pictures: those of which it does not know questions about pictures alone.
    """

    kept: int
    candidates: int
    unknown_in_text: int
    unknown_on_pictures: int


def known_records(
    records: Sequence[NumberedRecord],
    limit: int | None,
    make_table: Callable[[], RowTable],
    knows: Knows,
) -> tuple[list[NumberedRecord], KnownFacts]:
    """Finds records whose true answers the unedited model gives, in text and on both pictures.

    Args:
        records: asked about in this order, some at a time, until enough are known.
        limit: how many are enough; None asks about all at once.
        make_table: makes an empty table of rows.
        knows: rows -> (R,) bool, whether the model gives every answer token right.

    Returns:
        The known ones among those asked about, at least `limit` where there are so many, and how
        many they are.
    """
    is_right: dict[Prompt, bool] = {}
    known: list[NumberedRecord] = []
    candidates = unknown_in_text = unknown_on_pictures = 0
    while candidates < len(records) and (limit is None or len(known) < limit):
        more = len(records) if limit is None else max(limit - len(known), _RECORDS_AT_ONCE)
        chunk = records[candidates : candidates + more]
        candidates += len(chunk)
        prompts = {prompt for _, record in chunk for prompt in true_questions(record)}
        is_right |= _answers_right(prompts - is_right.keys(), make_table, knows)
        for number, record in chunk:
            wrong = [prompt for prompt in true_questions(record) if not is_right[prompt]]
            if not wrong:
                known.append((number, record))
            elif any(prompt.image is None for prompt in wrong):
                unknown_in_text += 1
            else:
                unknown_on_pictures += 1
    return known, KnownFacts(len(known), candidates, unknown_in_text, unknown_on_pictures)


def _answers_right(
    prompts: Iterable[Prompt], make_table: Callable[[], RowTable], knows: Knows
) -> dict[Prompt, bool]:
    """Prompt -> whether the model answers it right; rows of a kind and length stand together."""
    ordered = sorted(prompts, key=lambda p: (p.image is not None, len(p.question), p))
    right: list[bool] = []
    for start in range(0, len(ordered), _ROWS_AT_ONCE):
        table = make_table()
        for prompt in ordered[start : start + _ROWS_AT_ONCE]:
            table.add(prompt, 0)
        right += knows(table.rows()).tolist()
    return dict(zip(ordered, right, strict=True))
