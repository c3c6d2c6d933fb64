"""Probes that a source has no field for, drawn from its other records.

    same type        the edit's question about another subject of the same relation, with what is
                     true of that subject
    different type   the edit's question about a subject of another type, with the benchmark's own
                     answer, "Sorry, there is no country in the image" (TMKE, Supplementary)

Nothing is made up: question, answer and picture are those of another record of the same split. A
draw depends on the seed and the record alone, so neither the order nor the number of the records
decides it, and the record says which of its fields were drawn (`Record.drawn`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Iterable, Sequence
from copy import copy
from typing import Any, overload

from datamodules.records import DiffTypeQuestion, Record, SameTypeQuestion, name_key, renamed

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


class _Pool(Sequence[Record]):
    """Records that may be drawn, in an order of their own, without some of them.

    Nothing is compared record by record, so that a draw costs the same whatever their number.
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self._records = sorted(records, key=lambda r: (r.key, r.knowledge_edit.wording, r.about))
        self._about: dict[str, list[int]] = {}
        self._true: dict[str, list[int]] = {}
        for number, record in enumerate(self._records):
            self._about.setdefault(record.key, []).append(number)
            if (true := record.knowledge_edit.answer_true) is not None:
                self._true.setdefault(name_key(true), []).append(number)
        self._absent: list[int] = []

    def without(self, subject: str, true: Iterable[str] = ()) -> _Pool:
        """Those about other subjects, of whom none of some answers is true.

        Args:
            subject: key of the subject.
            true: keys of the answers.
        """
        absent = {*self._about.get(subject, ()), *(n for k in true for n in self._true.get(k, ()))}
        others = copy(self)
        others._absent = sorted(absent)
        return others

    def __len__(self) -> int:
        return len(self._records) - len(self._absent)

    @overload
    def __getitem__(self, number: int) -> Record: ...

    @overload
    def __getitem__(self, number: slice) -> Sequence[Record]: ...

    def __getitem__(self, number: int | slice) -> Record | Sequence[Record]:
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        for absent in self._absent:
            number += absent <= number
        return self._records[number]


def draw_same_type(records: Sequence[Record], seed: int, relation: Relation) -> list[Record]:
    """Gives each record without one a probe about another subject of its relation.

    That subject's true answer is none of the edit's new ones, or a leak would look like stability.
    A record of a relation with no such subject stays as it is.
    """
    members: dict[Hashable, list[Record]] = {}
    for record in records:
        key = relation(record)
        if key is not None and record.knowledge_edit.answer_true is not None:
            members.setdefault((key, record.knowledge_edit.question is None), []).append(record)
    pools = {key: _Pool(of_relation) for key, of_relation in members.items()}
    nobody = _Pool([])
    return [
        record
        if record.same_type_entity_question is not None
        else _with_same(
            record,
            pools.get((relation(record), record.knowledge_edit.question is None), nobody),
            seed,
        )
        for record in records
    ]


def _with_same(record: Record, pool: _Pool, seed: int) -> Record:
    edit = record.knowledge_edit
    taught = {name_key(name) for name in (edit.answer_new, *edit.answer_new_aliases)}
    other = _drawn(record, pool.without(record.key, taught), seed, "same_type")
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
) -> list[Record]:
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
    by_type: dict[str, list[Record]] = {}
    for record in records:
        if record.entity_type is not None and record.image is not None:
            by_type.setdefault(record.entity_type, []).append(record)
    known = {name for name, of_type in relations.items() if len(of_type) >= telling}
    different = {
        own: _Pool(
            record
            for other in sorted(by_type.keys() & known)
            if not relations[other] & relations[own] and not are_kin(own, other)
            for record in by_type[other]
        )
        for own in known
    }
    nobody = _Pool([])
    return [
        record
        if record.entity_type is None or record.diff_type_entity_question is not None
        else _with_different(record, different.get(record.entity_type, nobody), seed)
        for record in records
    ]


def _with_different(record: Record, pool: _Pool, seed: int) -> Record:
    edit = record.knowledge_edit
    other = _drawn(record, pool.without(record.key), seed, "diff_type")
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


def _drawn(record: Record, able: _Pool, seed: int, kind: str) -> Record | None:
    """One of the records, whatever their order; None of none."""
    if not able:
        return None
    edit = record.knowledge_edit
    draw = random.Random(f"{seed}/{kind}/{record.key}/{edit.wording}/{edit.answer_new}")
    return draw.choice(able)


def _marked(record: Record, **fields: Any) -> Record:
    field = next(iter(fields))
    return record.model_copy(update={**fields, "drawn": (*record.drawn, field)})
