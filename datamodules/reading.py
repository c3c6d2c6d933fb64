"""What tells whether a model reads a picture: who it takes it for, and the fact asked about it.

Of a probe that asks q about a picture of the subject s, a model that is not edited yet has

    named the picture   if it answers the record's naming question, "What is the company in the
                        image?", with s,
    read the fact       if it answers q itself with what is true of s,

teacher forced, every token of the answer right. A fact may be right by chance, as a continent is; a
name hardly. A probe has no naming question where nothing says how to ask for what it shows, or what
that is: the record lacks one, or the picture is of another type, or of an entity without a name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from datamodules.records import Record, name_key
from datamodules.scenarios import Prompt, Scenario, true_questions
from datamodules.source import FilterKnown

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


def _naming(record: Record, probe: str, image: str) -> Prompt | None:
    question = naming_question(record)
    if question is None or record.subject is None:
        return None
    if probe in _OF_THE_SUBJECT:
        return Prompt(question, record.subject, image)
    same = record.same_type_entity_question
    if probe in _OF_ITS_TYPE and same is not None:
        return Prompt(question, same.same_type_entity, image)
    return None


def naming_question(record: Record) -> str | None:
    """How to ask what a picture of the subject shows: the first of the record's `multimodal_hops`.

    None where that shows no picture or leads elsewhere than to the subject.
    """
    first = next(iter(record.multimodal_hops), None)
    if first is None or first.image is None or record.subject is None:
        return None
    if name_key(first.answer) != name_key(record.subject):
        return None
    return first.question


def all_prompts(
    scenario: Scenario, record: Record, *, filter_known: FilterKnown, reads: bool
) -> list[Prompt]:
    """What an edit of a record asks, and what the unedited model is asked besides.

    Args:
        scenario: what is taught and asked.
        record: the edit.
        filter_known: by which of its facts edits are chosen.
        reads: whether the model is also asked which pictures it reads.

    Raises:
        DataError: the record lacks what the scenario rests on.
    """
    probes = {name: make_prompt(record) for name, make_prompt in scenario.probes.items()}
    prompts = [scenario.edit(record), *(prompt for prompt in probes.values() if prompt)]
    if filter_known != "none":
        prompts += true_questions(record, pictures=filter_known == "pictures")
    if reads:
        reading = [
            question
            for probe, prompt in probes.items()
            for question in (reading_questions(record, probe, prompt) if prompt else ())
            if question is not None
        ]
        prompts += dict.fromkeys(question for question in reading if question not in prompts)
    return prompts
