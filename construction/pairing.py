"""Probes about other entities: the model's own of the same type, and rows as their pictures.

An entity is pictured where another row is about it, or where the user's table names its picture.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from construction.answers import Answers
from construction.wording import about_picture
from datamodules.drawn import by_wording, draw_different_type, draw_same_type
from datamodules.records import Record, SameTypeQuestion, name_key, renamed

SAME, SAME_IMAGE = "same_type_entity_question", "same_entity_image"
DIFFERENT, DIFFERENT_IMAGE = "diff_type_entity_question", "diff_entity_image"
_NAMES = re.compile(r"\s*(?:[/,;&()]|\bor\b|\band\b)\s*")  # part the names in one type


@dataclass(frozen=True)
class Paired:
    """A record with its probes about other entities.

    Attributes:
        lacks: field -> why the record has not got it.
        lent: field that was drawn -> id of the row that it is of.
    """

    record: Record
    lacks: Mapping[str, str] = field(default_factory=dict)
    lent: Mapping[str, str] = field(default_factory=dict)


class Pairing:
    """The entities that records can be paired with.

    Args:
        records: without such probes.
        ids: of the records, for `Paired.lent`.
        seed: of the draws.
        pictures: name of an entity -> picture, beside those of the records.
        kin: groups of types that an entity may share.
    """

    def __init__(
        self,
        records: Sequence[Record],
        ids: Sequence[str],
        seed: int,
        pictures: Mapping[str, str],
        kin: Iterable[Collection[str]],
    ) -> None:
        self._records, self._seed = records, seed
        self._pictures = {name_key(name): picture for name, picture in pictures.items()}
        self._kin = [{name_key(name) for name in group} for group in kin]
        self._about: dict[str, list[Record]] = {}
        self._ids: dict[tuple[str, str | None], str] = {}
        for record, name in zip(records, ids, strict=True):
            self._about.setdefault(record.key, []).append(record)
            self._ids.setdefault((record.key, record.image), name)

    def with_probes(self, answers: Sequence[Answers], *, stand_ins: bool) -> list[Paired]:
        """The records with a same-type and a different-type probe, as far as there is one."""
        own = [self._same(*each) for each in zip(self._records, answers, strict=True)]
        if stand_ins:
            own = self._stand_in(own)
        drawn = draw_different_type(
            [one.record for one in own],
            self._seed,
            relation=relation_of,
            telling=1,
            are_kin=self.are_kin,
        )
        return [self._finish(one, record) for one, record in zip(own, drawn, strict=True)]

    def are_kin(self, one: str, other: str) -> bool:
        """Whether an entity may be of both types: a name ends alike, or they are in one group.

        >>> Pairing([], [], 0, {}, []).are_kin("book/play", "comic book")
        True
        """
        keys = {name_key(one), name_key(other)}
        if any(keys <= group for group in self._kin):
            return True
        ends = [{name.split()[-1] for name in _NAMES.split(key) if name} for key in keys]
        return len(keys) == 1 or bool(ends[0] & ends[1])

    def _same(self, record: Record, answers: Answers) -> Paired:
        """The probe about the entity that was named, with a picture where there is one."""
        edit, entity = record.knowledge_edit, answers.same_type_entity
        known = self._rows_about(entity, record)
        same_fact = [row for row in known if relation_of(row) == relation_of(record)]
        answer = answers.same_type_answer
        if same_fact:  # what the user's table says counts
            answer = same_fact[0].knowledge_edit.answer_true or answer
        if name_key(answer) in {
            name_key(name) for name in (edit.answer_new, *edit.answer_new_aliases)
        }:
            why = "of the entity that was named, the new answer is true: a leak would look like it"
            return Paired(record, {SAME: why})
        subject, question = record.subject or "", edit.question or ""
        asked = renamed(question, subject, entity)
        if asked is None:
            return Paired(record, {SAME: "the question does not name the subject"})
        images = [row.image for row in (*same_fact, *known) if row.image is not None]
        image = images[0] if images else self._pictures.get(name_key(entity))
        shown = about_picture(question, subject, record.entity_type or "")
        probe = SameTypeQuestion(
            same_type_entity=entity,
            question=asked,
            image_question=shown if image is not None else None,
            answer=answer,
        )
        done = record.model_copy(update={SAME: probe, SAME_IMAGE: image})
        why = "there is no picture of the entity that was named"
        return Paired(done, {} if image is not None else {SAME_IMAGE: why})

    def _rows_about(self, entity: str, record: Record) -> list[Record]:
        """Records about an entity of the record's type."""
        kind = name_key(record.entity_type or "")
        rows = self._about.get(name_key(entity), [])
        return [row for row in rows if name_key(row.entity_type or "") == kind]

    def _stand_in(self, own: Sequence[Paired]) -> list[Paired]:
        """Rows in place of the entities without a picture, and of those that cannot be asked."""
        able = [
            self._without_same(one.record) if SAME in one.lacks or SAME_IMAGE in one.lacks
            else one.record
            for one in own
        ]  # fmt: skip
        shown = [number for number, record in enumerate(able) if record.image is not None]
        drawn = draw_same_type([able[n] for n in shown], self._seed, relation_of)
        new = dict(zip(shown, drawn, strict=True))
        return [
            Paired(new[number]) if number in new and SAME in new[number].drawn else one
            for number, one in enumerate(own)
        ]

    @staticmethod
    def _without_same(record: Record) -> Record:
        return record.model_copy(update={SAME: None, SAME_IMAGE: None})

    def _finish(self, one: Paired, record: Record) -> Paired:
        lacks = dict(one.lacks)
        if record.diff_type_entity_question is None:
            lacks[DIFFERENT] = "no row with a picture is of another type that shares no question"
        return replace(one, record=record, lacks=lacks, lent=self._lent(record))

    def _lent(self, record: Record) -> dict[str, str]:
        same, different = record.same_type_entity_question, record.diff_type_entity_question
        entities = {
            SAME: (same.same_type_entity if same else "", record.same_entity_image),
            DIFFERENT: (different.diff_type_entity if different else "", record.diff_entity_image),
        }
        keys = {name: (name_key(entity), image) for name, (entity, image) in entities.items()}
        return {name: self._ids[key] for name, key in keys.items() if key in self._ids}


def relation_of(record: Record) -> Hashable | None:
    """What is asked: the relation that the row names, else the wording, of entities of one type."""
    kind = name_key(record.entity_type or "")
    return (by_wording(record), kind) if record.relation is None else (record.relation, kind)
