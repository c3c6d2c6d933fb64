"""Name first, then ask: what a question about a picture is in text, around what the picture shows.

    Who made the car in the image?  ->  What is the car in the image?   (its naming question)
                                        Who made {what was named}?      (its text form)

The text form is the record's own text question with its entity taken out, so that a model which
names the subject rightly is asked what the record asks in text. A probe is asked so only if its
record tells both: who is shown and how to ask for that, and a text question that says the name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from datamodules.mentions import in_the_image, mentions
from datamodules.prompts import Prompt
from datamodules.reading import NamingQuestion, naming_question
from datamodules.records import LocalityKind, Record
from errors import DataError

NOBODY = "it"  # stands for a name of a model that named nothing
_SHOWN = re.compile(r"\bthe ((?:(?!the\b)[^\s,;:?!]+ ){1,5}?)in the (?:image|picture)\b", re.I)


class NamedEntity(NamedTuple):
    """What a probe's picture shows, and the probe in text.

    Attributes:
        name: of the entity.
        question: the text question that says the name.
        shown: the question about the picture, where that may be of another type than the subject.
    """

    name: str
    question: str
    shown: str | None = None


class NameFirst(NamedTuple):
    """How a probe is asked by way of a name.

    Attributes:
        naming: who its picture shows, with the true name as its answer.
        pieces: its text question, cut where the name stands.
        cloze: whether that is a beginning of a sentence and stands without the template.
    """

    naming: Prompt
    pieces: tuple[str, ...]
    cloze: bool

    def question(self, words: str) -> str:
        """The text question with what was named in it."""
        return named_in(self.pieces, words)


def named_in(pieces: tuple[str, ...], words: str) -> str:
    """A text question with what was named where it was cut.

    Blanks and a full stop around the words do not count. Where no word is left the question is
    asked about "it", since a question with a hole is none.

    >>> named_in(("Who made ", "?"), " Holden Caprice."), named_in(("Who made ", "?"), " ")
    ('Who made Holden Caprice?', 'Who made it?')
    """
    name = " ".join(words.split()).removesuffix(".").rstrip()
    return (name or NOBODY).join(pieces)


def name_first(record: Record, probe: str, prompt: Prompt) -> NameFirst | None:
    """How a probe is asked by way of a name; None where it is not.

    Args:
        record: of the edit.
        probe: its name in `datamodules.scenarios`.
        prompt: what it asks of the record.
    """
    of_record, entity_of = naming_question(record), _ENTITIES.get(probe)
    if prompt.image is None or of_record is None or entity_of is None:
        return None
    entity = None
    with suppress(DataError):  # its text form cannot be derived
        entity = entity_of(record)
    if entity is None or not (pieces := _cut(entity.question, entity.name)):
        return None
    if (question := _asked_of(of_record, entity)) is None:
        return None
    aliases = of_record.aliases if entity.name == record.subject else ()
    return NameFirst(
        Prompt(question, entity.name, prompt.image, aliases=aliases), pieces, prompt.cloze
    )


def shown_type(question: str) -> str | None:
    """The type that a question names what a picture shows by.

    >>> shown_type("Who made the car model in the image?"), shown_type("What is it?")
    ('car model', None)
    """
    found = _SHOWN.search(question)
    return found[1].strip() if found else None


def _asked_of(of_record: NamingQuestion, entity: NamedEntity) -> str | None:
    """How to ask who the picture shows: as of the subject, by the type in the probe's question."""
    if entity.shown is None:
        return of_record.question
    question, other = of_record.question, shown_type(entity.shown)
    if other is None:
        return None
    if (own := _SHOWN.search(question)) is None:
        return f"What is {in_the_image(other)}?"
    return f"{question[: own.start(1)]}{other} {question[own.end(1) :]}"


def _cut(question: str, name: str) -> tuple[str, ...]:
    """A question without a name in it; empty where it does not say the name."""
    pieces, end = [], 0
    for start, stop in mentions(question, name):
        pieces.append(question[end:start])
        end = stop
    return (*pieces, question[end:]) if pieces else ()


def _of_subject(question: str | None, record: Record) -> NamedEntity | None:
    if question is None or record.subject is None:
        return None
    return NamedEntity(record.subject, question)


def _edit(record: Record) -> NamedEntity | None:
    return _of_subject(record.knowledge_edit.question, record)


def _rephrase(record: Record) -> NamedEntity | None:
    part = record.rephrase_question
    return None if part is None else _of_subject(part.rephrase_question, record)


def _hop(record: Record) -> NamedEntity | None:
    part = record.one_hop_question
    return None if part is None else _of_subject(part.one_hop_question, record)


def _same(record: Record) -> NamedEntity | None:
    part = record.same_type_entity_question
    if part is None:
        return None
    return NamedEntity(part.same_type_entity, record.text_question_about(part))


def _diff(record: Record) -> NamedEntity | None:
    part = record.diff_type_entity_question
    if part is None:
        return None
    question = record.text_question_about(part)
    return NamedEntity(part.diff_type_entity, question, part.image_question)


def _extra(kind: LocalityKind, record: Record) -> NamedEntity | None:
    """A locality probe: of the subject, or of the entity by which its two questions differ."""
    part = record.extra_probe(kind)
    if part is None:
        return None
    if kind == "subject":
        return _of_subject(part.question, record)
    found = _SHOWN.search(part.image_question or "")
    if part.image_question is None or found is None:
        return None
    before, after = part.image_question[: found.start()], part.image_question[found.end() :]
    name = part.question[len(before) : len(part.question) - len(after)]
    if not name.strip() or f"{before}{name}{after}" != part.question:
        return None
    return NamedEntity(name, part.question, part.image_question)


_ENTITIES: Mapping[str, Callable[[Record], NamedEntity | None]] = {
    "reliability_s": _edit,
    "reliability_u": _edit,
    "generality_s": _rephrase,
    "generality_u": _rephrase,
    "portability": _hop,
    "locality_i_near": partial(_extra, "near"),
    "locality_i_subject": partial(_extra, "subject"),
    "stability_same": _same,
    "stability_diff": _diff,
    "leak_same": _same,
    "leak_diff": _diff,
}
