"""What is asked of a record: one function for each question, which makes a prompt of it.

A question that a record lacks is None; one that the edit itself rests on is an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from datamodules.records import (
    DiffTypeQuestion,
    KnowledgeEdit,
    LocalityKind,
    Record,
    RephraseQuestion,
    SameTypeQuestion,
)
from errors import DataError


class Prompt(NamedTuple):
    """A question with the answer it is scored against and the picture it shows.

    `plain` questions stand without the prompt's template where the data says so, a `cloze` always.
    A generated answer may also be one of the `aliases`. With `ended` the end token follows the
    answer, as a part of it.
    """

    question: str
    answer: str
    image: str | None = None
    plain: bool = False
    cloze: bool = False
    aliases: tuple[str, ...] = ()
    ended: bool = False


PromptMaker = Callable[[Record], Prompt | None]
EditMaker = Callable[[Record], Prompt]


def edit_text(record: Record) -> Prompt:
    """The edit in text.

    Raises:
        DataError: the record asks of its picture alone.
    """
    edit = record.knowledge_edit
    if edit.question is None:
        raise DataError(
            f"the edit about {record.about!r} has a question about a picture and none in text: "
            "only scenario=multimodal can be asked of it."
        )
    return _new(record, edit, edit.question)


def edit_image(record: Record) -> Prompt:
    """The edit about its picture, which every scenario that shows the subject rests on.

    Raises:
        DataError: the record has no picture, or no question about one.
    """
    edit = record.knowledge_edit
    if edit.image_question is None or record.image is None:
        raise DataError(
            f"the record has no {'picture' if record.image is None else 'question about a picture'}"
            f" of {record.about!r}: only scenario=unimodal can be asked of it, and a training of "
            "text edits only editor.questions=text."
        )
    return _new(record, edit, edit.image_question, record.image)


def edit_unseen(record: Record) -> Prompt | None:
    """The edit about the other picture of its subject."""
    edit = record.knowledge_edit
    question = edit.unseen_question or edit.image_question
    return _of_picture(record, edit, question, record.image_rephrase)


def rephrase_text(record: Record) -> Prompt | None:
    """The paraphrase in text."""
    rephrase = record.rephrase_question
    if rephrase is None or rephrase.rephrase_question is None:
        return None
    return _new(record, rephrase, rephrase.rephrase_question)


def rephrase_image(record: Record) -> Prompt | None:
    """The paraphrase about the edit's picture."""
    rephrase = record.rephrase_question
    question = rephrase.rephrase_image_question if rephrase else None
    return _of_picture(record, rephrase, question, record.image)


def rephrase_unseen(record: Record) -> Prompt | None:
    """The paraphrase about the other picture of the subject."""
    rephrase = record.rephrase_question
    question = rephrase.rephrase_image_question if rephrase else None
    return _of_picture(record, rephrase, question, record.image_rephrase)


def named(record: Record, image: str | None) -> Prompt | None:
    """The text question beside a picture: who is shown has been named, the fact is still asked."""
    return _of_picture(record, record.knowledge_edit, record.knowledge_edit.question, image)


def hop_text(record: Record) -> Prompt | None:
    """What follows from the edited fact, in text."""
    hop = record.one_hop_question
    if hop is None or hop.one_hop_question is None:
        return None
    return Prompt(hop.one_hop_question, hop.answer_new, aliases=hop.answer_new_aliases)


def hop_image(record: Record) -> Prompt | None:
    """What follows from it, beside a picture: the question's, or else the edit's."""
    hop = record.one_hop_question
    if hop is None:
        return None
    image, aliases = hop.image or record.image, hop.answer_new_aliases
    return _pictured(hop.one_hop_image_question, hop.answer_new, image, aliases)


def far_text(record: Record) -> Prompt | None:
    """A question that has nothing to do with the edit, in text."""
    far = record.locality_question
    if far is None:
        return None
    return Prompt(far.question, far.answer, plain=True, aliases=far.answer_aliases)


def far_image(record: Record) -> Prompt | None:
    """The same about a picture of something else."""
    far = record.image_locality_question
    if far is None:
        return None
    return _pictured(far.question, far.answer, record.locality_image, far.answer_aliases)


def extra_text(kind: LocalityKind, record: Record) -> Prompt | None:
    """A question that is near to the edit, in text: of another subject, or another relation."""
    extra = record.extra_probe(kind)
    if extra is None:
        return None
    return Prompt(extra.question, extra.answer, aliases=extra.answer_aliases)


def extra_image(kind: LocalityKind, record: Record) -> Prompt | None:
    """The same about a picture."""
    extra = record.extra_probe(kind)
    if extra is None:
        return None
    return _pictured(extra.image_question, extra.answer, extra.image, extra.answer_aliases)


def same_text(record: Record) -> Prompt | None:
    """The edited relation of another subject of the same type, in text."""
    return _about_another_text(record, record.same_type_entity_question)


def same_image(record: Record) -> Prompt | None:
    """The same about a picture of that subject."""
    return _about_another(record.same_type_entity_question, record.same_entity_image)


def diff_text(record: Record) -> Prompt | None:
    """The edited relation of a subject of another type, in text."""
    return _about_another_text(record, record.diff_type_entity_question)


def diff_image(record: Record) -> Prompt | None:
    """The same about a picture of that subject."""
    return _about_another(record.diff_type_entity_question, record.diff_entity_image)


def leak(make_prompt: PromptMaker, record: Record) -> Prompt | None:
    """The same question, scored against the edit's new target: how far the edit leaks into it."""
    prompt, edit = make_prompt(record), record.knowledge_edit
    return prompt and prompt._replace(answer=edit.answer_new, aliases=edit.answer_new_aliases)


def true_questions(record: Record, *, pictures: bool = True) -> list[Prompt]:
    """What the unedited model must know for an edit to mean anything.

    The edited fact and its paraphrase with the true answer: in text, and on both pictures.

    Raises:
        DataError: the record does not say what is true, or has nothing to ask.
    """
    edit, true = record.knowledge_edit, record.knowledge_edit.answer_true
    if true is None:
        raise DataError(
            f"the record about {record.about!r} does not say what is true, so nothing tells "
            "whether the model knows it: data.filter_known=none."
        )
    facts = [(edit.question, edit.image_question, true)]
    if (rephrase := record.rephrase_question) is not None:
        questions = (rephrase.rephrase_question, rephrase.rephrase_image_question)
        facts.append((*questions, rephrase.answer_true or true))
    prompts = [Prompt(text, answer) for text, _, answer in facts if text is not None]
    for image in (record.image, record.image_rephrase) if pictures else ():
        shown = [_pictured(question, answer, image) for _, question, answer in facts]
        prompts += [prompt for prompt in shown if prompt is not None]
    if not prompts:
        raise DataError(
            f"the record about {record.about!r} has no text question, so text does not tell "
            "whether the model knows its fact: data.filter_known=pictures or none."
        )
    return [prompt._replace(cloze=record.is_cloze) for prompt in prompts]


def _of_picture(
    record: Record,
    part: KnowledgeEdit | RephraseQuestion | None,
    question: str | None,
    image: str | None,
) -> Prompt | None:
    if part is None or question is None or image is None:
        return None
    return _new(record, part, question, image)


def _new(
    record: Record, part: KnowledgeEdit | RephraseQuestion, question: str, image: str | None = None
) -> Prompt:
    """A question of the edited fact, with its new answer."""
    return Prompt(
        question, part.answer_new, image, cloze=record.is_cloze, aliases=part.answer_new_aliases
    )


def _about_another_text(
    record: Record, probe: SameTypeQuestion | DiffTypeQuestion | None
) -> Prompt | None:
    if probe is None:
        return None
    question = record.text_question_about(probe)
    return Prompt(question, probe.answer, aliases=probe.answer_aliases)


def _about_another(
    probe: SameTypeQuestion | DiffTypeQuestion | None, image: str | None
) -> Prompt | None:
    if probe is None:
        return None
    return _pictured(probe.image_question, probe.answer, image, probe.answer_aliases)


def _pictured(
    question: str | None, answer: str, image: str | None, aliases: tuple[str, ...] = ()
) -> Prompt | None:
    """A question about a picture; None where the record lacks one of the two."""
    if question is None or image is None:
        return None
    return Prompt(question, answer, image, aliases=aliases)
