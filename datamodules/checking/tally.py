"""What is told of records before anything heavy loads: one look at each, and no picture opened.

An edit is worth a second look where its question does not name its subject (ROME cannot make it,
and no probe about another entity can be derived from it), where it teaches what is true already,
and where another edit teaches the same fact: with the same answer it counts twice, with another one
the later edit of a sequence undoes the earlier. A target dominates from 5 % of the records on: an
editor that gives it as its answer to everything is right so often.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from datamodules.checking.report import Finding, Noted
from datamodules.left_out import SHOWN
from datamodules.mentions import mentions
from datamodules.records import Record, name_key
from datamodules.source import Split

DOMINATES = 0.05  # of the records, from which on a target is told
_FEWEST = 4  # records of a target, below which no share means anything
_DIGEST_BYTES = 8


class Tally:
    """Counts what is in some records; keeps none of them.

    Args:
        place: number of a record -> where it stands.
        most: records that are named of each kind; None: all.
    """

    def __init__(self, place: Callable[[int], str], *, most: int | None = SHOWN) -> None:
        self.records = 0
        self._place = place
        self._subjects = set[str]()
        self._targets: Counter[str] = Counter()
        self._spelled: dict[str, str] = {}
        self._facts: dict[bytes, tuple[int, str]] = {}  # -> number of the edit, what it teaches
        self._absent, self._idle = Noted(most), Noted(most)
        self._repeated, self._several = Noted(most), Noted(most)

    @classmethod
    def of(
        cls, records: Iterable[Record], place: Callable[[int], str], *, most: int | None = SHOWN
    ) -> Tally:
        """That of some records."""
        tally = cls(place, most=most)
        for record in records:
            tally.add(record)
        return tally

    def add(self, record: Record) -> None:
        """Counts a record."""
        number, edit, subject = self.records, record.knowledge_edit, record.subject
        self.records += 1
        self._subjects.add(record.key)
        target = name_key(edit.answer_new)
        self._targets[target] += 1
        self._spelled.setdefault(target, edit.answer_new)
        if edit.question and subject and not names(edit.question, subject):
            self._absent.add(f"{self._place(number)}: {edit.question!r} does not name {subject!r}")
        if record.changes_nothing:
            self._idle.add(f"{self._place(number)} ({record.named}): {edit.answer_new!r}")
        earlier, taught = self._facts.setdefault(_fact(record), (number, target))
        if earlier != number:
            same = taught == target
            (self._repeated if same else self._several).add(
                f"{self._place(number)} ({record.named}): {edit.answer_new!r}, and "
                f"{'so ' if same else ''}{self._place(earlier)}"
                + ("" if same else f": {self._spelled[taught]!r}")
            )

    @property
    def subjects(self) -> int:
        """How many different subjects there are."""
        return len(self._subjects)

    @property
    def targets(self) -> int:
        """How many different answers are taught."""
        return len(self._targets)

    def commonest(self, most: int) -> dict[str, int]:
        """The answers that most edits teach, with how many."""
        return {self._spelled[key]: count for key, count in self._targets.most_common(most)}

    def findings(self, split: Split) -> list[Finding]:
        """What is worth knowing of the records.

        A training may teach several answers to one question: each of its edits stands alone.
        """
        counted = [
            Finding(kind, split, noted.count, self.records, what, False, tuple(noted.first))
            for kind, noted, what in (
                ("absent_subjects", self._absent, "edits do not name their subject in text"),
                ("idle_edits", self._idle, "edits change nothing: answer_new is answer_true"),
                ("repeated_edits", self._repeated, "edits teach what an earlier one teaches"),
                ("several_answers", self._several, "edits teach another answer than an earlier one "
                 "to the same question"),
            )
            if noted.count and not (split == "train" and kind == "several_answers")
        ]  # fmt: skip
        return counted + self._dominating(split)

    def as_dict(self, split: Split) -> dict[str, Any]:
        """The same as plain values, for a result."""
        found = [
            {"kind": f.kind, "n": f.count, "of": f.of, "first": list(f.first)}
            for f in self.findings(split)
        ]
        counts = {"records": self.records, "subjects": self.subjects, "targets": self.targets}
        return counts | {"findings": found}

    def _dominating(self, split: Split) -> list[Finding]:
        often = {
            self._spelled[key]: count
            for key, count in self._targets.most_common()
            if count >= max(DOMINATES * self.records, _FEWEST)
        }
        if not often:
            return []
        total, several = sum(often.values()), len(often) > 1
        targets = f"{len(often)} targets that dominate" if several else "one target that dominates"
        named = tuple(f"{name!r}: {n} ({n / self.records:.0%})" for name, n in often.items())
        what = f"edits teach {targets} ({total / self.records:.0%})"
        return [Finding("dominant_targets", split, total, self.records, what, False, named)]


def names(question: str, subject: str) -> bool:
    """Whether a question names a subject, as whole words; as `mentions`, and faster."""
    start = question.find(subject)
    if start >= 0:
        around = question[max(start - 1, 0) : start], question[start + len(subject) :][:1]
        if all(char.isascii() and not char.isalnum() and char != "_" for char in around):
            return True
    return bool(mentions(question, subject))


def _fact(record: Record) -> bytes:
    edit = record.knowledge_edit
    asked = f"{record.key}\0{edit.question}\0{edit.image_question}\0{record.image}"
    return hashlib.blake2b(asked.encode(), digest_size=_DIGEST_BYTES).digest()
