"""The scenarios: what the edit sees, and what is asked after it.

One table; the first three rows are the benchmark's (Supplementary, sections 1 and 2):

    unimodal    the edit is a text question, the probes are text
    transitive  the edit is a text question, the probes show pictures
    multimodal  the edit is a question about a picture, so are the probes
    reverse     the edit is a question about a picture, the probes are text
    joint       the edit is both questions at once, the probes are in text and show pictures

"Seen" (s) pictures are the record's `image`, "unseen" (u) ones its `image_rephrase`. Locality asks
the schema's own question (far) and, where the data has them, one about another subject of the same
relation (near) and one about another relation of the same subject.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

from datamodules.records import (
    DiffTypeQuestion,
    KnowledgeEdit,
    LocalityKind,
    Record,
    RephraseQuestion,
    SameTypeQuestion,
)
from errors import DataError

ScenarioName = Literal["unimodal", "transitive", "multimodal", "reverse", "joint"]
Questions = Literal["text", "image_text", "transitive"]


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


@dataclass(frozen=True)
class Scenario:
    """What is taught and what is asked.

    Attributes:
        name: as the user types it.
        edit: the prompts that teach one edit, with the new target as their answers.
        probes: probe name -> what it asks of a record; None where the record lacks it.
        names_first: whether what a probe asks of a picture is asked in text too, by the name that
            the unedited model gives what is shown (`datamodules.name_first`).
        together: whether the edits of a batch are in place together, so that no probe is asked
            whose answer another one of them changes (`datamodules.contradicted`).
    """

    name: str
    edit: Callable[[Record], tuple[Prompt, ...]]
    probes: Mapping[str, PromptMaker]
    names_first: bool = False
    together: bool = False

    def images(self, record: Record) -> list[str]:
        """The pictures that this scenario needs of a record."""
        asked = (make_prompt(record) for make_prompt in self.probes.values())
        prompts = (*self.edit(record), *filter(None, asked))
        return sorted({prompt.image for prompt in prompts if prompt.image is not None})


def _edits(makers: tuple[EditMaker, ...], record: Record) -> tuple[Prompt, ...]:
    return tuple(make_prompt(record) for make_prompt in makers)


def _edit_text(record: Record) -> Prompt:
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


def _edit_image(record: Record) -> Prompt:
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


def _edit_unseen(record: Record) -> Prompt | None:
    edit = record.knowledge_edit
    question = edit.unseen_question or edit.image_question
    return _of_picture(record, edit, question, record.image_rephrase)


def _rephrase_text(record: Record) -> Prompt | None:
    rephrase = record.rephrase_question
    if rephrase is None or rephrase.rephrase_question is None:
        return None
    return _new(record, rephrase, rephrase.rephrase_question)


def _rephrase_image(record: Record) -> Prompt | None:
    rephrase = record.rephrase_question
    question = rephrase.rephrase_image_question if rephrase else None
    return _of_picture(record, rephrase, question, record.image)


def _rephrase_unseen(record: Record) -> Prompt | None:
    rephrase = record.rephrase_question
    question = rephrase.rephrase_image_question if rephrase else None
    return _of_picture(record, rephrase, question, record.image_rephrase)


def _named(record: Record, image: str | None) -> Prompt | None:
    """The text question beside a picture: who is shown has been named, the fact is still asked."""
    return _of_picture(record, record.knowledge_edit, record.knowledge_edit.question, image)


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


def _hop_text(record: Record) -> Prompt | None:
    hop = record.one_hop_question
    if hop is None or hop.one_hop_question is None:
        return None
    return Prompt(hop.one_hop_question, hop.answer_new, aliases=hop.answer_new_aliases)


def _hop_image(record: Record) -> Prompt | None:
    hop = record.one_hop_question
    if hop is None:
        return None
    image, aliases = hop.image or record.image, hop.answer_new_aliases
    return _pictured(hop.one_hop_image_question, hop.answer_new, image, aliases)


def _far_text(record: Record) -> Prompt | None:
    far = record.locality_question
    if far is None:
        return None
    return Prompt(far.question, far.answer, plain=True, aliases=far.answer_aliases)


def _far_image(record: Record) -> Prompt | None:
    far = record.image_locality_question
    if far is None:
        return None
    return _pictured(far.question, far.answer, record.locality_image, far.answer_aliases)


def _extra_text(kind: LocalityKind, record: Record) -> Prompt | None:
    extra = record.extra_probe(kind)
    if extra is None:
        return None
    return Prompt(extra.question, extra.answer, aliases=extra.answer_aliases)


def _extra_image(kind: LocalityKind, record: Record) -> Prompt | None:
    extra = record.extra_probe(kind)
    if extra is None:
        return None
    return _pictured(extra.image_question, extra.answer, extra.image, extra.answer_aliases)


def _same_text(record: Record) -> Prompt | None:
    return _about_another_text(record, record.same_type_entity_question)


def _same_image(record: Record) -> Prompt | None:
    return _about_another(record.same_type_entity_question, record.same_entity_image)


def _diff_text(record: Record) -> Prompt | None:
    return _about_another_text(record, record.diff_type_entity_question)


def _diff_image(record: Record) -> Prompt | None:
    return _about_another(record.diff_type_entity_question, record.diff_entity_image)


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


def _leak(make_prompt: PromptMaker, record: Record) -> Prompt | None:
    """The same question, scored against the edit's new target: how far the edit leaks into it."""
    prompt, edit = make_prompt(record), record.knowledge_edit
    return prompt and prompt._replace(answer=edit.answer_new, aliases=edit.answer_new_aliases)


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
# Text probes as they are called beside those with pictures, which have the text localities.
TEXT_BESIDE_PICTURES: Mapping[str, PromptMaker] = {
    f"{name}_t": make_prompt
    for name, make_prompt in TEXT_PROBES.items()
    if not name.startswith("locality")
}
# Beside a picture what is asked in text, which names the subject; training alone asks so.
NAMED_PROBES: Mapping[str, PromptMaker] = {
    "named_s": lambda record: _named(record, record.image),
    "named_u": lambda record: _named(record, record.image_rephrase),
}
# Probe -> the field of a record that it asks, where that may be drawn from another record.
DRAWN_FIELDS: Mapping[str, str] = {
    f"{probe}_{kind}{beside}": f"{kind}_type_entity_question"
    for probe in ("stability", "leak")
    for kind in ("same", "diff")
    for beside in ("", "_t")
}
_IN_TEXT = partial(_edits, (_edit_text,))
_ON_PICTURE = partial(_edits, (_edit_image,))
_BOTH = partial(_edits, (_edit_text, _edit_image))
SCENARIOS: Mapping[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        Scenario("unimodal", _IN_TEXT, TEXT_PROBES),
        Scenario("transitive", _IN_TEXT, IMAGE_PROBES),
        Scenario("multimodal", _ON_PICTURE, IMAGE_PROBES),
        Scenario("reverse", _ON_PICTURE, TEXT_PROBES),
        Scenario("joint", _BOTH, {**IMAGE_PROBES, **TEXT_BESIDE_PICTURES}),
    )
}


_TRAINING_PROBES: Mapping[Questions, Mapping[str, PromptMaker]] = {
    "text": TEXT_PROBES,
    "image_text": IMAGE_PROBES,
    "transitive": {**IMAGE_PROBES, **TEXT_BESIDE_PICTURES, **NAMED_PROBES},
}


def training_scenario(name: str, questions: Questions, probes: set[str]) -> Scenario:
    """The scenario's edit with the outer-loss questions of an outer loss (benchmark, training).

    Args:
        name: a scenario; it decides what the edit sees.
        questions: `text` asks text questions, `image_text` shows pictures, `transitive` does both.
        probes: the names of the outer loss's questions.
    """
    table = _TRAINING_PROBES[questions]
    return replace(SCENARIOS[name], probes={name: table[name] for name in table if name in probes})


def with_end(scenario: Scenario, probes: Collection[str] = ()) -> Scenario:
    """The scenario whose edits are taught with the end token behind their target.

    The rows that teach an edit are then rows of their own: probes ask for the target alone.

    Args:
        scenario: any.
        probes: those of an outer loss that ask for the end token too.
    """
    return replace(
        scenario,
        edit=partial(_ended_edit, scenario.edit),
        probes={
            name: partial(_ended, make_prompt) if name in probes else make_prompt
            for name, make_prompt in scenario.probes.items()
        },
    )


def _ended_edit(
    make_prompts: Callable[[Record], tuple[Prompt, ...]], record: Record
) -> tuple[Prompt, ...]:
    return tuple(prompt._replace(ended=True) for prompt in make_prompts(record))


def _ended(make_prompt: PromptMaker, record: Record) -> Prompt | None:
    prompt = make_prompt(record)
    return prompt and prompt._replace(ended=True)


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
    asked = [(edit.question, edit.image_question, true)]
    if (rephrase := record.rephrase_question) is not None:
        questions = (rephrase.rephrase_question, rephrase.rephrase_image_question)
        asked.append((*questions, rephrase.answer_true or true))
    prompts = [Prompt(text, answer) for text, _, answer in asked if text is not None]
    for image in (record.image, record.image_rephrase) if pictures else ():
        shown = [_pictured(question, answer, image) for _, question, answer in asked]
        prompts += [prompt for prompt in shown if prompt is not None]
    if not prompts:
        raise DataError(
            f"the record about {record.about!r} has no text question, so text does not tell "
            "whether the model knows its fact: data.filter_known=pictures or none."
        )
    return [prompt._replace(cloze=record.is_cloze) for prompt in prompts]
