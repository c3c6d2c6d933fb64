"""What tells whether a model reads a picture: who it takes it for, and the fact asked about it.

Of a probe that asks q about a picture of the subject s, a model that is not edited yet has

    named the picture   if it answers the record's naming question, "What is the company in the
                        image?", with s,
    read the fact       if it answers q itself with what is true of s,

teacher forced, every token of the answer right. A fact may be right by chance, as a continent is; a
name hardly. The naming question is the record's, else it is built from the type of its subject. A
probe has none where nothing says how to ask for what it shows, or what that is: the record tells no
type, or the picture is of another type, or of an entity without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from datamodules.mentions import in_the_image
from datamodules.prompts import Prompt
from datamodules.records import Record, name_key

_OF_THE_SUBJECT = (
    "reliability_s", "reliability_u", "generality_s", "generality_u", "portability",
    "locality_i_subject",
)  # fmt: skip
_OF_ITS_TYPE = ("stability_same", "leak_same")
# Probes that are scored against another answer than the true one; all others ask for that.
_TRUE_ANSWERS: Mapping[str, Callable[[Record], str | None]] = {
    "reliability": lambda record: record.knowledge_edit.answer_true,
    "generality": lambda record: r.answer_true if (r := record.rephrase_question) else None,
    "portability": lambda record: hop.answer_true if (hop := record.one_hop_question) else None,
    "leak_same": lambda record: same.answer if (same := record.same_type_entity_question) else None,
    "leak_diff": lambda record: diff.answer if (diff := record.diff_type_entity_question) else None,
}


class ReadingQuestions(NamedTuple):
    """What the unedited model is asked about the picture of a probe, with the true answers.

    Attributes:
        naming: who is shown; None where that cannot be asked.
        fact: the probe's own question; None for a probe in text.
    """

    naming: Prompt | None
    fact: Prompt | None


def reading_questions(record: Record, probe: str, prompt: Prompt) -> ReadingQuestions:
    """What tells whether the picture of a probe is read; nothing for a probe in text.

    Args:
        record: of the edit.
        probe: its name in `datamodules.scenarios`.
        prompt: what it asks of the record.
    """
    if prompt.image is None:
        return ReadingQuestions(None, None)
    names = [name for name in (probe, probe.partition("_")[0]) if name in _TRUE_ANSWERS]
    answer = _TRUE_ANSWERS[names[0]](record) if names else prompt.answer
    fact = None if answer is None else prompt._replace(answer=answer)
    return ReadingQuestions(_naming(record, probe, prompt.image), fact)


class NamingQuestion(NamedTuple):
    """How to ask what a picture of a record's subject shows.

    Attributes:
        question: about a picture.
        is_built: whether it was made from the type of the subject, since the record has none.
        aliases: other names of the subject, where the record's question has them.
    """

    question: str
    is_built: bool
    aliases: tuple[str, ...] = ()


def naming_question(record: Record) -> NamingQuestion | None:
    """The first of the record's `multimodal_hops`, else a question built from its `entity_type`.

    A hop that shows no picture, or leads elsewhere than to the subject, asks for something else.

    Returns:
        None where the record names no subject, or tells neither a question nor a type.
    """
    if record.subject is None:
        return None
    for first in record.multimodal_hops[:1]:
        if first.image is not None and name_key(first.answer) == name_key(record.subject):
            return NamingQuestion(first.question, False, first.answer_aliases)
    if record.entity_type is None:
        return None
    return NamingQuestion(f"What is {in_the_image(record.entity_type)}?", True)


def naming_counts(records: Iterable[Record]) -> dict[str, int]:
    """How many records bring a naming question (given), had one built, and have none."""
    questions = [naming_question(record) for record in records]
    built = sum(question is not None and question.is_built for question in questions)
    none = questions.count(None)
    return {"given": len(questions) - built - none, "built": built, "none": none}


def _naming(record: Record, probe: str, image: str) -> Prompt | None:
    """Who the picture of a probe shows; None where that cannot be asked."""
    naming = naming_question(record)
    if naming is None or record.subject is None:
        return None
    if probe in _OF_THE_SUBJECT:
        return Prompt(naming.question, record.subject, image, aliases=naming.aliases)
    same = record.same_type_entity_question
    if probe in _OF_ITS_TYPE and same is not None:
        return Prompt(naming.question, same.same_type_entity, image)
    return None
