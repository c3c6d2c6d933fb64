"""The three scenarios: what the edit sees, and what is asked after it.

One table, from the benchmark's description (Supplementary, sections 1 and 2):

    unimodal    the edit is a text question, the probes are text
    transitive  the edit is a text question, the probes show pictures
    multimodal  the edit is a question about a picture, so are the probes

"Seen" (s) pictures are the record's `image`, "unseen" (u) ones its `image_rephrase`. Locality asks
the schema's own question (far) and, where the data has them, one about another subject of the same
relation (near) and one about another relation of the same subject.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from datamodules.records import LocalityKind, Record
from errors import DataError

ScenarioName = Literal["unimodal", "transitive", "multimodal"]
Questions = Literal["text", "image_text"]


class Prompt(NamedTuple):
    """A question with the answer it is scored against and the picture it shows.

    `plain` questions stand without the prompt's template where the data says so.
    """

    question: str
    answer: str
    image: str | None = None
    plain: bool = False


PromptMaker = Callable[[Record], Prompt | None]


@dataclass(frozen=True)
class Scenario:
    """What is taught and what is asked.

    Attributes:
        name: as the user types it.
        edit: the prompt that teaches the edit, with the new target as its answer.
        probes: probe name -> what it asks of a record; None where the record lacks it.
    """

    name: str
    edit: Callable[[Record], Prompt]
    probes: Mapping[str, PromptMaker]

    def images(self, record: Record) -> list[str]:
        """The pictures that this scenario needs of a record."""
        makers = (self.edit, *self.probes.values())
        prompts = (prompt for make_prompt in makers if (prompt := make_prompt(record)))
        return sorted({prompt.image for prompt in prompts if prompt.image is not None})


def _edit_text(record: Record) -> Prompt:
    edit = record.knowledge_edit
    return Prompt(edit.question, edit.answer_new)


def _edit_image(record: Record) -> Prompt:
    """The edit about its picture, which every scenario with pictures rests on.

    Raises:
        DataError: the record has no picture, or no question about one.
    """
    edit = record.knowledge_edit
    prompt = _pictured(edit.image_question, edit.answer_new, record.image)
    if prompt is None:
        raise DataError(
            f"the record has no {'picture' if record.image is None else 'question about a picture'}"
            f" of {record.subject!r}: only scenario=unimodal can be asked of it."
        )
    return prompt


def _edit_unseen(record: Record) -> Prompt | None:
    edit = record.knowledge_edit
    return _pictured(edit.image_question, edit.answer_new, record.image_rephrase)


def _rephrase_text(record: Record) -> Prompt:
    rephrase = record.rephrase_question
    return Prompt(rephrase.rephrase_question, rephrase.answer_new)


def _rephrase_image(record: Record) -> Prompt | None:
    rephrase = record.rephrase_question
    return _pictured(rephrase.rephrase_image_question, rephrase.answer_new, record.image)


def _rephrase_unseen(record: Record) -> Prompt | None:
    rephrase = record.rephrase_question
    return _pictured(rephrase.rephrase_image_question, rephrase.answer_new, record.image_rephrase)


def _hop_text(record: Record) -> Prompt | None:
    hop = record.one_hop_question
    return None if hop is None else Prompt(hop.one_hop_question, hop.answer_new)


def _hop_image(record: Record) -> Prompt | None:
    hop = record.one_hop_question
    return (
        None if hop is None else _pictured(hop.one_hop_image_question, hop.answer_new, record.image)
    )


def _far_text(record: Record) -> Prompt | None:
    far = record.locality_question
    return None if far is None else Prompt(far.question, far.answer, plain=True)


def _far_image(record: Record) -> Prompt | None:
    far = record.image_locality_question
    return None if far is None else _pictured(far.question, far.answer, record.locality_image)


def _extra_text(kind: LocalityKind, record: Record) -> Prompt | None:
    extra = record.extra_probe(kind)
    return None if extra is None else Prompt(extra.question, extra.answer)


def _extra_image(kind: LocalityKind, record: Record) -> Prompt | None:
    extra = record.extra_probe(kind)
    return None if extra is None else _pictured(extra.image_question, extra.answer, extra.image)


def _same_text(record: Record) -> Prompt | None:
    probe = record.same_type_entity_question
    return None if probe is None else Prompt(record.text_question_about(probe), probe.answer)


def _same_image(record: Record) -> Prompt | None:
    probe = record.same_type_entity_question
    return (
        None
        if probe is None
        else _pictured(probe.image_question, probe.answer, record.same_entity_image)
    )


def _diff_text(record: Record) -> Prompt | None:
    probe = record.diff_type_entity_question
    return None if probe is None else Prompt(record.text_question_about(probe), probe.answer)


def _diff_image(record: Record) -> Prompt | None:
    probe = record.diff_type_entity_question
    return (
        None
        if probe is None
        else _pictured(probe.image_question, probe.answer, record.diff_entity_image)
    )


def _pictured(question: str | None, answer: str, image: str | None) -> Prompt | None:
    """A question about a picture; None where the record lacks one of the two."""
    return None if question is None or image is None else Prompt(question, answer, image)


def _leak(make_prompt: PromptMaker, record: Record) -> Prompt | None:
    """The same question, scored against the edit's new target: how far the edit leaks into it."""
    prompt = make_prompt(record)
    return prompt and prompt._replace(answer=record.knowledge_edit.answer_new)


TEXT_PROBES: Mapping[str, PromptMaker] = {
    "reliability": _edit_text,
    "generality": _rephrase_text,
    "portability": _hop_text,
    "locality_far": _far_text,
    "locality_near": partial(_extra_text, "near"),
    "locality_subject": partial(_extra_text, "subject"),
    "stability_same": _same_text,
    "stability_diff": _diff_text,
    "leak_same": partial(_leak, _same_text),
    "leak_diff": partial(_leak, _diff_text),
}
IMAGE_PROBES: Mapping[str, PromptMaker] = {
    "reliability_s": _edit_image,
    "reliability_u": _edit_unseen,
    "generality_s": _rephrase_image,
    "generality_u": _rephrase_unseen,
    "portability": _hop_image,
    "locality_t_far": _far_text,
    "locality_t_near": partial(_extra_text, "near"),
    "locality_t_subject": partial(_extra_text, "subject"),
    "locality_i_far": _far_image,
    "locality_i_near": partial(_extra_image, "near"),
    "locality_i_subject": partial(_extra_image, "subject"),
    "stability_same": _same_image,
    "stability_diff": _diff_image,
    "leak_same": partial(_leak, _same_image),
    "leak_diff": partial(_leak, _diff_image),
}
SCENARIOS: Mapping[str, Scenario] = {
    "unimodal": Scenario("unimodal", _edit_text, TEXT_PROBES),
    "transitive": Scenario("transitive", _edit_text, IMAGE_PROBES),
    "multimodal": Scenario("multimodal", _edit_image, IMAGE_PROBES),
}


def training_scenario(name: str, questions: Questions, probes: set[str]) -> Scenario:
    """The scenario's edit with the outer-loss questions of an outer loss (benchmark, training).

    Args:
        name: a scenario; it decides what the edit sees.
        questions: `text` asks text questions, `image_text` shows pictures.
        probes: the names of the outer loss's questions.
    """
    table = TEXT_PROBES if questions == "text" else IMAGE_PROBES
    return replace(SCENARIOS[name], probes={name: table[name] for name in table if name in probes})


def true_questions(record: Record, *, pictures: bool = True) -> list[Prompt]:
    """What the unedited model must know for an edit to mean anything.

    The edited fact and its paraphrase with the true answer: in text, and on both pictures.
    """
    edit, rephrase = record.knowledge_edit, record.rephrase_question
    prompts = [
        Prompt(edit.question, edit.answer_true),
        Prompt(rephrase.rephrase_question, rephrase.answer_true),
    ]
    for image in (record.image, record.image_rephrase) if pictures else ():
        about = (
            _pictured(edit.image_question, edit.answer_true, image),
            _pictured(rephrase.rephrase_image_question, rephrase.answer_true, image),
        )
        prompts += [prompt for prompt in about if prompt is not None]
    return prompts
