"""Which edits are of facts that the unedited model knows; an edit of any other means little.

What it knows is asked in text alone, or on both pictures of the subject too (`data.filter_known`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from torch import Tensor

from datamodules.collate import RowTable
from datamodules.prompts import Prompt, true_questions
from datamodules.records import NumberedRecord, Record
from errors import DataError
from models.rows import Rows

log = logging.getLogger(__name__)
Knows = Callable[[Rows], Tensor]
_ROWS_AT_ONCE = 256
_RECORDS_AT_ONCE = 16
_MOST_AT_ONCE = 4096  # where all are asked about


@dataclass(frozen=True)
class KnownFacts:
    """How many facts of a split the unedited model knows, in text and on the pictures asked about.

    Where a number of edits is enough, records after the last of them count nowhere.

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


class KnownFilter:
    """Lets those records through whose true answers the unedited model gives; asks no more.

    Args:
        make_table: makes an empty table of rows.
        knows: rows -> (R,) bool, whether the model gives every answer token right.
        wanted: how many known records are enough; None asks about all.
        pictures: whether it has to know the fact on the pictures too.

    Attributes:
        is_right: what was asked -> whether the model answers it right.
    """

    def __init__(
        self,
        make_table: Callable[[], RowTable],
        knows: Knows,
        wanted: int | None,
        *,
        pictures: bool = True,
    ) -> None:
        self._make_table, self._knows, self._wanted = make_table, knows, wanted
        self._pictures = pictures
        self.is_right: dict[Prompt, bool] = {}
        self._kept = self._unknown_in_text = self._unknown_on_pictures = 0

    def __call__(self, records: Iterable[NumberedRecord]) -> Iterator[NumberedRecord]:
        """The known ones among the records, in their order.

        Records are taken some at a time: as many as are still wanted, or as were unknown so far
        where that is more, so that a model which knows little is not asked one by one.
        """
        coming, is_right = iter(records), self.is_right
        while chunk := list(islice(coming, self._at_once())):
            prompts = {prompt for _, record in chunk for prompt in self._questions(record)}
            is_right |= _answers_right(prompts - is_right.keys(), self._make_table, self._knows)
            for number, record in chunk:
                wrong = [prompt for prompt in self._questions(record) if not is_right[prompt]]
                if not wrong:
                    self._kept += 1
                    yield number, record
                elif any(prompt.image is None for prompt in wrong):
                    self._unknown_in_text += 1
                else:
                    self._unknown_on_pictures += 1

    @property
    def facts(self) -> KnownFacts:
        """What became of the records up to the last one that was let through."""
        unknown = self._unknown_in_text + self._unknown_on_pictures
        return KnownFacts(
            self._kept, self._kept + unknown, self._unknown_in_text, self._unknown_on_pictures
        )

    def _questions(self, record: Record) -> list[Prompt]:
        return true_questions(record, pictures=self._pictures)

    def _at_once(self) -> int:
        if self._wanted is None:
            return _MOST_AT_ONCE
        unknown = self._unknown_in_text + self._unknown_on_pictures
        return max(1, self._wanted - self._kept, min(unknown, _RECORDS_AT_ONCE))


def log_known(split: str, facts: KnownFacts, not_asked: int, *, pictures: bool) -> None:
    """Says how many edits were kept, and how many records were not asked about."""
    log.info(
        "%s split: %d of %d candidate edits kept; the unedited model misses %d in text%s%s",
        split,
        facts.kept,
        facts.candidates,
        facts.unknown_in_text,
        f", {facts.unknown_on_pictures} on a picture" if pictures else " (no picture was asked)",
        f"; {not_asked} more were not asked about" if not_asked else "",
    )


def nothing_known(where: str, n_records: int, *, pictures: bool) -> DataError:
    """The error where the unedited model knows no fact of a split."""
    return DataError(
        f"the unedited model knows none of the {n_records} facts of {where}, so there is nothing "
        "to edit. Use a model that was pre-trained on this world (python pretrain.py data=...), or "
        f"set {'data.filter_known=text or ' if pictures else ''}data.filter_known=none."
    )


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
