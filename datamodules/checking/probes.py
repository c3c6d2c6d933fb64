"""What the records of a split are about, and which probes can be asked of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from datamodules.checking.report import Finding, Noted
from datamodules.prompts import PromptMaker
from datamodules.records import Record
from datamodules.relations import relation_of
from datamodules.scenarios import IMAGE_PROBES, TEXT_PROBES
from datamodules.source import Split
from errors import DataError

_OF_THE_EDIT = "reliability"  # a record without one of its forms has no such probe
_SAME_AS = "leak"  # probes that ask what another one does
UNTOLD = "not told"


class ProbeCounts:
    """Counts relations, types, probes and pictures of records; keeps none of them.

    Args:
        place: number of a record -> where it stands.
    """

    def __init__(self, place: Callable[[int], str]) -> None:
        self.relations: Counter[str] = Counter()
        self.types: Counter[str] = Counter()
        self.text: Counter[str] = Counter()
        self.pictures: Counter[str] = Counter()
        self.images: dict[str, int] = {}  # name -> number of the first record that shows it
        self._place, self._number = place, 0
        self._underivable = Noted()

    def add(self, record: Record) -> None:
        """Counts a record."""
        self.relations[relation_of(record) or UNTOLD] += 1
        if record.entity_type is not None:
            self.types[record.entity_type] += 1
        for table, counts in ((TEXT_PROBES, self.text), (IMAGE_PROBES, self.pictures)):
            counts.update(self._asked(record, table))
        for image in images_of(record):
            self.images.setdefault(image, self._number)
        self._number += 1

    def findings(self, split: Split) -> list[Finding]:
        """Probes that lack their text question, where none can be made of the edit's."""
        if not self._underivable.count:
            return []
        what = (
            "records have a probe about another entity that has no text question, and the edit's "
            "question gives none"
        )
        first = tuple(self._underivable.first)
        return [
            Finding("underivable", split, self._underivable.count, self._number, what, True, first)
        ]

    def _asked(self, record: Record, table: Mapping[str, PromptMaker]) -> list[str]:
        """The probes that can be asked of a record."""
        asked = []
        reasons: dict[str, None] = {}
        for name, make_prompt in table.items():
            if name.startswith(_SAME_AS):
                continue
            try:
                if make_prompt(record) is not None:
                    asked.append(name)
            except DataError as error:
                if not name.startswith(_OF_THE_EDIT):
                    reasons[str(error)] = None
        if reasons:
            self._underivable.add(f"{self._place(self._number)}: {' '.join(reasons)}")
        return asked


def images_of(record: Record) -> list[str]:
    """The pictures that a record names, each once."""
    hop = record.one_hop_question
    named = (
        record.image, record.image_rephrase, record.same_entity_image, record.diff_entity_image,
        record.locality_image, hop.image if hop else None,
        *(extra.image for extra in record.extra_locality),
    )  # fmt: skip
    return list(dict.fromkeys(image for image in named if image is not None))
