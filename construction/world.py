"""A world folder of records, which a small model can be pretrained on (`data=folder`).

    entity      a subject with its pictures; whatever a step of a chain or a probe is about
    relation    as the record names it, else the question without its subject
    fact        what is true: of the subject, of the same-type entity, of the true answer and of
                the new one (the second facts of their chains)
    wordings    the relation's questions and paraphrases, the frequent ones first

A model that has learned this world knows what the records say is true, the new answers by name and
what follows from them, so that edits of the same records can be judged on it. A world holds one
answer of a fact: of records that differ the first one counts, and the others are counted.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from construction.data_set import IMAGES, Terms, check_ours, copy_pictures
from datamodules.picture_folder import PictureFolder
from datamodules.records import Question, Record, name_key, renamed
from datamodules.world.schema import ENTITIES_FILE, WORLD_FILE
from errors import DataError
from results.files import replacing_folder

FILES = (ENTITIES_FILE, WORLD_FILE, IMAGES)  # what we write there
_SUBJECT = "{s}"  # stands for the subject in a wording
_MOST = 12  # wordings of a relation; each is a row of the model's curriculum
_AGAIN = ("Answer this: {}", "Tell me: {}")  # further wordings where a relation has but one
_FEWEST = 2  # pictured entities
_SEEN, _UNSEEN = "seen", "unseen"  # kinds of views


class WorldCounts(NamedTuple):
    """What a world holds.

    Attributes:
        entities, pictured, relations, facts: how many there are.
        unpictured: subjects without a seen and an unseen picture, which are known by name alone.
        contradicted: facts of records that another record has answered differently before.
    """

    entities: int
    pictured: int
    relations: int
    facts: int
    unpictured: list[str]
    contradicted: list[str]


def write_world(
    folder: Path, records: Sequence[Record], pictures: PictureFolder, terms: Terms
) -> WorldCounts:
    """Writes a world folder whole or not at all; an earlier one of ours gives way.

    Args:
        folder: made if it does not exist.
        records: with subject and text question.
        pictures: where their pictures are, which are copied.
        terms: origin and licence.

    Raises:
        ConfigError: something else is there.
        DataError: fewer than two subjects have a seen and an unseen picture, or something cannot
            be written.
    """
    check_ours(folder, FILES)
    gathered = _gather(records)
    entities = [entity.as_json(f"e{n}") for n, entity in enumerate(gathered.entities.values())]
    shown = [entity for entity in gathered.entities.values() if entity.is_pictured]
    if len(shown) < _FEWEST:
        raise DataError(
            f"a world needs two subjects at least of which there is a picture and another one "
            f"(image, image_rephrase), and {len(shown)} of the {len(records)} records' subjects "
            "are such. Give more rows both pictures."
        )
    seen = sorted({view for entity in shown for view in entity.views(_SEEN)})
    unseen = sorted({view for entity in shown for view in entity.views(_UNSEEN)})
    described = {
        "relations": {name: relation.as_json() for name, relation in gathered.relations.items()},
        "views": {"seen": seen, "unseen": unseen},
        "origin": terms.origin,
        **({} if terms.licence is None else {"licence": terms.licence}),
    }
    with replacing_folder(folder) as temporary:
        names = (name for entity in shown for name in (*entity.seen, *entity.unseen))
        copy_pictures(sorted(set(names)), pictures, temporary / IMAGES)
        for name, content in ((ENTITIES_FILE, entities), (WORLD_FILE, described)):
            text = json.dumps(content, ensure_ascii=False, indent=1)
            (temporary / name).write_text(f"{text}\n", encoding="utf-8")
    subjects = dict.fromkeys(record.key for record in records if record.subject is not None)
    about = [gathered.entities[key] for key in subjects if key in gathered.entities]
    return WorldCounts(
        entities=len(entities),
        pictured=len(shown),
        relations=len(gathered.relations),
        facts=sum(len(entity.facts) for entity in gathered.entities.values()),
        unpictured=[entity.name for entity in about if not entity.is_pictured],
        contradicted=gathered.contradicted,
    )


@dataclass
class _Entity:
    """What records say of an entity."""

    name: str
    types: Counter[str] = field(default_factory=Counter)
    facts: dict[str, str] = field(default_factory=dict)
    seen: dict[str, None] = field(default_factory=dict)
    unseen: dict[str, None] = field(default_factory=dict)

    @property
    def is_pictured(self) -> bool:
        """Whether an edit can show one picture, and its probes another."""
        return bool(self.seen) and bool(self.unseen)

    def views(self, kind: str) -> dict[str, str]:
        """Name of a view -> its path; none where the entity has but one kind."""
        names = self.seen if kind == _SEEN else self.unseen
        paths = {f"{kind}_{n}": f"{IMAGES}/{name}" for n, name in enumerate(names)}
        return paths if self.is_pictured else {}

    def as_json(self, name: str) -> dict[str, Any]:
        """The entity in entities.json."""
        content: dict[str, Any] = {"id": name, "name": self.name}
        if self.types:
            content["type"] = self.types.most_common(1)[0][0]
        return {
            **content,
            "facts": self.facts,
            "images": self.views(_SEEN) | self.views(_UNSEEN),
        }


@dataclass
class _Relation:
    """How a relation is asked.

    Attributes:
        asked, paraphrased: wordings, with the times that they are used.
        phrase: how its object is named where the relation's name does not say.
    """

    asked: Counter[str] = field(default_factory=Counter)
    paraphrased: Counter[str] = field(default_factory=Counter)
    phrase: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The relation in world.json; generic wordings where none names the subject once."""
        frequent = [w for used in (self.asked, self.paraphrased) for w, _ in used.most_common()]
        wordings = list(dict.fromkeys(frequent))[:_MOST]
        if len(wordings) == 1:
            wordings += [again.format(wordings[0]) for again in _AGAIN]
        described: dict[str, Any] = {"wordings": wordings} if wordings else {}
        return described | ({"hop_phrase": self.phrase} if self.phrase else {})


@dataclass
class _Gathered:
    entities: dict[str, _Entity] = field(default_factory=dict)
    relations: dict[str, _Relation] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)  # wording -> relation
    contradicted: list[str] = field(default_factory=list)

    def entity(self, name: str) -> _Entity:
        """The entity of a name, however it is spelled."""
        return self.entities.setdefault(name_key(name), _Entity(name))

    def relation(self, question: str, subject: str, named: str | None = None) -> str | None:
        """The relation that a question asks; None where it does not name its subject once."""
        wording = _wording(question, subject)
        if wording is None:
            return named and self._add(named)
        name = self._add(named or self.names.get(wording) or _slug(wording))
        self.names.setdefault(wording, name)
        self.relations[name].asked[wording] += 1
        if name == _slug(wording):
            self.relations[name].phrase = f'the answer to "{wording}"'
        return name

    def _add(self, relation: str) -> str:
        """The relation, which may have no wording yet."""
        self.relations.setdefault(relation, _Relation())
        return relation

    def say(self, subject: str, relation: str | None, answer: str) -> None:
        """Adds a fact of a relation that is there; what was said of it before counts."""
        if relation is None:
            return
        before = self.entity(subject).facts.setdefault(relation, answer)
        if name_key(before) != name_key(answer):
            self.contradicted.append(f"{relation} of {subject}: {before!r}, and then {answer!r}")


def _gather(records: Sequence[Record]) -> _Gathered:
    """All that records say is true; what a row says comes before what a model answered."""
    gathered = _Gathered()
    usable = [record for record in records if record.subject and record.knowledge_edit.question]
    for record in usable:  # wordings by name first, so that unnamed ones may join them
        _add_subject(gathered, record)
    for record in usable:
        gathered.entity(record.knowledge_edit.answer_new)
        for chain in (record.single_hops, record.new_single_hops):
            _add_chain(gathered, chain)
    for record in usable:
        _add_same_type(gathered, record)
    return gathered


def _add_subject(gathered: _Gathered, record: Record) -> None:
    subject, edit = record.subject or "", record.knowledge_edit
    entity = gathered.entity(subject)
    if record.entity_type is not None:
        entity.types[record.entity_type] += 1
    relation = gathered.relation(edit.question or "", subject, record.relation)
    if edit.answer_true is not None:
        gathered.say(subject, relation, edit.answer_true)
    rephrase = record.rephrase_question
    if relation is not None and rephrase is not None and rephrase.rephrase_question is not None:
        wording = _wording(rephrase.rephrase_question, subject)
        if wording is not None:
            gathered.relations[relation].paraphrased[wording] += 1
    if record.image is not None:
        entity.seen[record.image] = None
    if record.image_rephrase is not None:
        entity.unseen[record.image_rephrase] = None
    for name in entity.seen.keys() & entity.unseen.keys():  # what one edit shows, none has unseen
        del entity.unseen[name]


def _add_chain(gathered: _Gathered, chain: Sequence[Question]) -> None:
    """The facts behind the first one, each about the answer before it."""
    for before, hop in pairwise(chain):
        relation = gathered.relation(hop.question, before.answer)
        gathered.say(before.answer, relation, hop.answer)


def _add_same_type(gathered: _Gathered, record: Record) -> None:
    probe = record.same_type_entity_question
    if probe is None or probe.question is None:
        return
    entity = gathered.entity(probe.same_type_entity)
    if record.entity_type is not None and not entity.types:
        entity.types[record.entity_type] += 1
    relation = gathered.relation(probe.question, probe.same_type_entity, record.relation)
    gathered.say(probe.same_type_entity, relation, probe.answer)


def _wording(question: str, subject: str) -> str | None:
    """The question with a placeholder; None where it does not name the subject once."""
    wording = renamed(question, subject, _SUBJECT)
    return None if wording is None or wording.count(_SUBJECT) != 1 else wording


def _slug(wording: str) -> str:
    """A name for a relation that has none.

    >>> _slug("Where was {s} born?")
    'where_was_born'
    """
    words = re.findall(r"[^\W_]+", wording.replace(_SUBJECT, " ").lower())
    return "_".join(words) or "question"
