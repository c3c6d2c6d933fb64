"""Which facts a model knew before it was made, and which it was taught then.

A model that `pretrain.py` makes around a language model says so in its manifest.json,

    "facts": {"known_before": [[subject, relation], ...], "unlocked": [...], "taught": [...]}

A fact is `taught` where its question and answer were trained on and it was not known before: an
edit of it would judge the training and no knowledge. A fact is `unlocked` where it was never
trained on, not known before, and known afterwards. Facts of no list were not marked.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from datamodules.records import Record, name_key
from errors import DataError, ModelError

log = logging.getLogger(__name__)
MANIFEST = "manifest.json"  # in the folder of a model
Mark = Literal["known_before", "unlocked", "taught"]
MARKS: tuple[Mark, ...] = ("known_before", "unlocked", "taught")  # of two the later one counts
UNMARKED = "unmarked"
_Fact = tuple[str, str]  # subject, in any spelling, and relation


@dataclass(frozen=True)
class FactMarks:
    """The marks of a model's facts; empty for a model that says nothing of them."""

    by_fact: Mapping[_Fact, Mark] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.by_fact)

    def of(self, record: Record) -> Mark | None:
        """The mark of the fact that a record edits; None where it has none or names no relation."""
        if record.relation is None or record.subject is None:
            return None
        return self.by_fact.get((name_key(record.subject), record.relation))

    def counts(self, records: Iterable[Record]) -> dict[str, int]:
        """How many records have each mark, and how many have none."""
        found = Counter(self.of(record) or UNMARKED for record in records)
        return {mark: found[mark] for mark in (*MARKS, UNMARKED)}


class TaughtFacts:
    """Leaves test edits of taught facts out, and counts them; training and validation take all.

    Args:
        marks: of the model's facts.
        are_served: whether such edits are made too (`data.taught`).
    """

    def __init__(self, marks: FactMarks | None = None, *, are_served: bool = False) -> None:
        self.marks, self._are_served = marks or FactMarks(), are_served
        self._left_out: set[int] = set()  # numbers of test records

    def leaves_out(self, split: str, number: int, record: Record) -> bool:
        """Whether a record is no edit, as its fact was taught."""
        if split != "test" or self._are_served or self.marks.of(record) != "taught":
            return False
        self._left_out.add(number)
        return True

    def n_left_out(self, split: str) -> int:
        """Records of a split that were left out, of those that were looked at."""
        return len(self._left_out) if split == "test" else 0

    def counts(self, split: str, served: Sequence[Record]) -> dict[str, Any]:
        """`taught_left_out`, and the `marks` of the edits served; empty for a model without any."""
        if not self.marks:
            return {}
        return {"taught_left_out": self.n_left_out(split), "marks": self.marks.counts(served)}

    def log(self, split: str, served: Sequence[Record]) -> None:
        """Says what the model was taught of the test edits while it was made."""
        if self.marks and split == "test":
            marks = self.marks.counts(served).items()
            log.info(
                "test split: facts of the %d edits before the model was made: %s; %d records left "
                "out as taught%s",
                len(served),
                ", ".join(f"{n} {mark.replace('_', ' ')}" for mark, n in marks if n),
                len(self._left_out),
                "" if self._are_served else " (data.taught=true edits them)",
            )

    def nothing_left(self, where: str) -> DataError | None:
        """The error where all facts of a split are taught; None where no record was left out."""
        if not self._left_out:
            return None
        return DataError(
            f"the model was taught {len(self._left_out)} facts of {where} while it was made, and "
            "no other is there to edit. data.taught=true edits them, which judges its training; or "
            "use other data, or another data.seed."
        )


def read_fact_marks(folder: str | Path) -> FactMarks:
    """The marks in a model's folder.

    Args:
        folder: of the model; a name of the Hugging Face hub has none.

    Raises:
        ModelError: its manifest.json cannot be read, or its marks are no pairs of texts.
    """
    path = Path(folder) / MANIFEST
    if not path.is_file():
        return FactMarks()
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(
            f"{path} cannot be read as JSON ({error}). It says what the model was taught: make the "
            "model's folder anew, or take the file out."
        ) from error
    facts = manifest.get("facts") if isinstance(manifest, dict) else None
    if not (isinstance(facts, dict) and set(MARKS) & facts.keys()):
        return FactMarks()  # of another project, or a model of ours without marks
    by_fact: dict[_Fact, Mark] = {}
    for mark in MARKS:
        for pair in _pairs(path, mark, facts.get(mark, [])):
            by_fact[name_key(pair[0]), pair[1]] = mark
    return FactMarks(by_fact)


def _pairs(path: Path, mark: str, listed: object) -> list[_Fact]:
    pairs: list[Any] = listed if isinstance(listed, list) else [listed]
    for pair in pairs:
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not (is_pair and all(isinstance(text, str) for text in pair)):
            raise ModelError(
                f"{path}: facts.{mark} holds {pair!r:.80}; expected are pairs [subject, relation] "
                "of texts. Make the model's folder anew."
            )
    return [(pair[0], pair[1]) for pair in pairs]
