"""Probes that a source has no field for, drawn from its other records.

    same type        the edit's question about another subject of the same relation, with what is
                     true of that subject
    different type   the edit's question about a subject of another type, with the benchmark's own
                     answer, "Sorry, there is no country in the image" (TMKE, Supplementary)

Nothing is made up: question, answer and picture are those of another record of the same split, and
the record says which of its fields were drawn (`Record.drawn`). The order of the records decides
nothing, and a record that comes or goes changes few draws of the others: records stand on a ring
(consistent hashing), and each draws the first after its own point that may be drawn.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any

from datamodules.record_table import kept_as, select
from datamodules.records import DiffTypeQuestion, Record, SameTypeQuestion, name_key, renamed

_POINTS = 4  # of a record on a ring
_TELLING = 2  # relations of a type, from which on it counts as different from others
Relation = Callable[[Record], Hashable | None]
Kin = Callable[[str, str], bool]  # whether an entity may be of both types


def no_such(entity_type: str) -> str:
    """What is right to say of a picture that does not show an entity of a type."""
    return f"Sorry, there is no {entity_type} in the image"


def by_wording(record: Record) -> Hashable | None:
    """What stands for the relation where none is named: the edit's question without its subject.

    None where the question does not name the subject.
    """
    question, subject = record.knowledge_edit.question, record.subject
    return None if question is None or subject is None else renamed(question, subject, "{}")


def by_relation(record: Record) -> Hashable | None:
    """The relation by name, of entities of one type."""
    return None if record.relation is None else (record.relation, record.entity_type)


class _Ring:
    """Records at points that depend on each of them alone, several of each so that all come up.

    Args:
        records: what may be drawn.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        points = sorted(
            (_point(f"{name}/{nth}"), name, number)
            for number, record in enumerate(self._records)
            for name in [f"{record.key}/{record.knowledge_edit.wording}/{record.about}"]
            for nth in range(_POINTS)
        )
        self._points = array("Q", (point for point, _, _ in points))
        self._numbers = array("L", (number for _, _, number in points))

    def first(self, key: str, fits: Callable[[Record], bool]) -> Record | None:
        """The first record that fits, from the point of a text on; None where none does."""
        start = bisect_left(self._points, _point(key))
        seen = set[int]()
        for step in range(len(self._points)):
            number = self._numbers[(start + step) % len(self._points)]
            if number not in seen and fits(self._records[number]):
                return self._records[number]
            seen.add(number)
        return None


def _point(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def draw_same_type(records: Sequence[Record], seed: int, relation: Relation) -> Sequence[Record]:
    """Gives each record without one a probe about another subject of its relation.

    That subject's true answer is none of the edit's new ones, or a leak would look like stability.
    A record of a relation with no such subject stays as it is.
    """
    members: dict[Hashable, list[int]] = {}
    for number, record in enumerate(records):
        key = relation(record)
        if key is not None and record.knowledge_edit.answer_true is not None:
            members.setdefault((key, record.knowledge_edit.question is None), []).append(number)
    rings = {key: _Ring(select(records, numbers)) for key, numbers in members.items()}
    nobody = _Ring([])
    made = (
        record
        if record.same_type_entity_question is not None
        else _with_same(
            record,
            rings.get((relation(record), record.knowledge_edit.question is None), nobody),
            seed,
        )
        for record in records
    )
    return kept_as(records, made)


def _with_same(record: Record, ring: _Ring, seed: int) -> Record:
    edit = record.knowledge_edit
    taught = {name_key(name) for name in (edit.answer_new, *edit.answer_new_aliases)}
    other = ring.first(
        _draw(record, seed, "same_type"),
        lambda other: (
            other.key != record.key
            and name_key(other.knowledge_edit.answer_true or "") not in taught
        ),
    )
    if other is None or other.subject is None or other.knowledge_edit.answer_true is None:
        return record
    about = other.knowledge_edit
    pictured = other.image is not None and record.image is not None
    probe = SameTypeQuestion(
        same_type_entity=other.subject,
        question=about.question,
        image_question=about.image_question if pictured else None,
        answer=about.answer_true,
    )
    picture = other.image if pictured else None
    return _marked(record, same_type_entity_question=probe, same_entity_image=picture)


def by_name(record: Record) -> Hashable | None:
    """The relation by name alone."""
    return record.relation


def no_kin(one: str, other: str) -> bool:
    """Types that have no entity in common, whatever they are called."""
    del one, other
    return False


def draw_different_type(
    records: Sequence[Record],
    seed: int,
    *,
    relation: Relation = by_name,
    telling: int = _TELLING,
    are_kin: Kin = no_kin,
) -> Sequence[Record]:
    """Gives each record without one a probe about a pictured subject of another type.

    Types that share a relation may be kin (a band is a music group), so they do not count as
    different, and neither do types of which too few relations are known. A record that no other
    type differs from in this sense stays as it is.

    Args:
        records: those of a split.
        seed: of the draws.
        relation: what types share.
        telling: relations of a type, from which on it counts as different from others.
        are_kin: types that are kin by their names.
    """
    relations: dict[str, set[Hashable | None]] = {}
    for record in records:
        if record.entity_type is not None:
            relations.setdefault(record.entity_type, set()).add(relation(record))
    known = {name for name, of_type in relations.items() if len(of_type) >= telling}
    different = {
        own: {
            other
            for other in known
            if not relations[other] & relations[own] and not are_kin(own, other)
        }
        for own in known
    }
    able = [n for n, r in enumerate(records) if r.image is not None and r.entity_type in known]
    ring = _Ring(select(records, able))
    pictured = {record.entity_type for record in records if record.image is not None}
    made = (
        record
        if record.diff_type_entity_question is not None
        or not (others := different.get(record.entity_type or "", set()) & pictured)
        else _with_different(record, ring, others, seed)
        for record in records
    )
    return kept_as(records, made)


def _with_different(record: Record, ring: _Ring, types: Collection[str], seed: int) -> Record:
    edit = record.knowledge_edit
    other = ring.first(
        _draw(record, seed, "diff_type"),
        lambda other: other.key != record.key and other.entity_type in types,
    )
    if other is None or other.subject is None or record.entity_type is None:
        return record
    question = edit.question and renamed(edit.question, record.subject or "", other.subject)
    if edit.question is not None and question is None:
        return record
    probe = DiffTypeQuestion(
        diff_type_entity=other.subject,
        question=question,
        image_question=edit.image_question,
        answer=no_such(record.entity_type),
    )
    return _marked(record, diff_type_entity_question=probe, diff_entity_image=other.image)


def _draw(record: Record, seed: int, kind: str) -> str:
    """What a draw depends on."""
    edit = record.knowledge_edit
    return f"{seed}/{kind}/{record.key}/{edit.wording}/{edit.answer_new}"


def _marked(record: Record, **fields: Any) -> Record:
    field = next(iter(fields))
    return record.model_copy(update={**fields, "drawn": (*record.drawn, field)})
