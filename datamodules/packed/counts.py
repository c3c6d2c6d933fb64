"""What a split of a data set holds, in numbers for its page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from datamodules.prompts import PromptMaker
from datamodules.records import Record
from datamodules.scenarios import IMAGE_PROBES, TEXT_PROBES
from errors import DataError

# The same question as Stability's, asked for another answer: it is there where that one is.
_SAME_QUESTION = ("leak_same", "leak_diff")


@dataclass
class Counts:
    """Numbers of a split.

    Attributes:
        records: how many there are.
        relations: relation -> records that edit it; None: records that name none.
        text_probes: probe -> records that it can be asked of, in text.
        image_probes: the same about pictures.
        drawn: field -> records in which it was drawn from another one.
    """

    records: int = 0
    relations: Counter[str | None] = field(default_factory=Counter)
    text_probes: Counter[str] = field(default_factory=Counter)
    image_probes: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, records: Iterable[Record]) -> Counts:
        """Counts records."""
        counts = cls()
        for record in records:
            counts.records += 1
            counts.relations[record.relation] += 1
            counts.drawn.update(record.drawn)
            for of_kind, probes in (
                (counts.text_probes, TEXT_PROBES),
                (counts.image_probes, IMAGE_PROBES),
            ):
                of_kind.update(
                    name
                    for name, make_prompt in probes.items()
                    if name not in _SAME_QUESTION and _can_ask(make_prompt, record)
                )
        return counts


def _can_ask(make_prompt: PromptMaker, record: Record) -> bool:
    try:
        return make_prompt(record) is not None
    except DataError:  # a question that is left out and cannot be derived
        return False
