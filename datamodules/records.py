"""One record of the benchmark: an edit of one fact and everything that is asked after it.

The schema is the one of the TMKE authors' files (Supplementary, section 3): a fact about a
subject, its counterfactual target, a paraphrase, a one-hop question, a same-type and a
different-type entity, a text and an image question for locality, and the pictures. `TmkeRecord`
demands every field of it. `Record` is what the rest of the project works with: an edit and its
paraphrase. What a source has no field for is absent, and not asked: a world's relation may lead to
no one-hop question, text benchmarks have no picture, and no entity to ask the edit's question
about. A record may carry extra locality probes that tell near from far.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints, ValidationError

from datamodules.mentions import mentions
from errors import DataError

_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}  # Unicode's categories of what shows nothing
_MAY_LEAVE = re.compile(r"^/|\.\.|[\\:\0]")
_SHOWN = 60  # characters of a value in a message


def visible(text: str) -> str:
    """A text that shows something.

    Raises:
        ValueError: it does not.
    """
    hidden = (unicodedata.category(letter) in _INVISIBLE for letter in text)
    if not text[:1].isalnum() and all(hidden):  # nearly every text begins so
        raise ValueError("the text holds nothing that can be seen")
    return text


def inside_folder(path: str) -> str:
    """A picture's path, if it stays inside the folder of the pictures.

    Raises:
        ValueError: it does not, or its folders are parted by a backslash.
    """
    if not _MAY_LEAVE.search(path):  # a world has thousands of paths, and nearly all are such
        return path
    if "\\" in path:
        raise ValueError("a path has / between its folders, and no backslash")
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        raise ValueError("a path relative to the folder of the pictures is needed")
    if ".." in PurePosixPath(path).parts:
        raise ValueError("a path inside the folder of the pictures is needed, without ..")
    if "\0" in path:
        raise ValueError("a path holds no zero byte")
    return path


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(visible)
]
Picture = Annotated[Text, AfterValidator(inside_folder)]
LocalityKind = Literal["near", "subject"]


class Part(BaseModel):
    """Base of the nested parts: unknown fields are kept out, values cannot change."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class KnowledgeEdit(Part):
    """The edited fact, as a text question and as a question about a picture of the subject."""

    question: Text
    image_question: Text | None = None
    answer_new: Text
    answer_true: Text


class RephraseQuestion(Part):
    """The same fact in other words (Generality)."""

    rephrase_question: Text
    rephrase_image_question: Text | None = None
    answer_new: Text
    answer_true: Text


class OneHopQuestion(Part):
    """A question that needs the edited fact and one more (Portability)."""

    one_hop_question: Text
    one_hop_image_question: Text | None = None
    answer_new: Text
    answer_true: Text | None = None


class SameTypeQuestion(Part):
    """The edit's question about another entity of the subject's type (Stability)."""

    same_type_entity: Text
    image_question: Text
    answer: Text
    question: Text | None = None


class DiffTypeQuestion(Part):
    """The edit's question about an entity of another type (Stability)."""

    diff_type_entity: Text
    image_question: Text
    answer: Text
    question: Text | None = None


class Question(Part):
    """A question with its answer."""

    question: Text
    answer: Text


class HopQuestion(Question):
    """One step of a chain that starts from a picture."""

    image: str | None = None


class ExtraLocality(Part):
    """A locality probe beyond the schema's.

    `near` asks the edited relation of another subject, `subject` another relation of the edited
    one.
    """

    kind: LocalityKind
    question: Text
    image_question: Text | None = None
    answer: Text
    image: Picture | None = None


class Record(BaseModel):
    """One edit with its probes. Image fields are paths relative to the source's image folder."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    subject: Text
    entity_type: Text | None = None
    knowledge_edit: KnowledgeEdit
    rephrase_question: RephraseQuestion
    one_hop_question: OneHopQuestion | None = None
    same_type_entity_question: SameTypeQuestion | None = None
    diff_type_entity_question: DiffTypeQuestion | None = None
    locality_question: Question | None = None
    image_locality_question: Question | None = None
    image: Picture | None = None
    image_rephrase: Picture | None = None
    same_entity_image: Picture | None = None
    diff_entity_image: Picture | None = None
    locality_image: Picture | None = None
    single_hops: list[Question] = []
    new_single_hops: list[Question] = []
    multimodal_hops: list[HopQuestion] = []
    extra_locality: list[ExtraLocality] = []
    relation: str | None = None

    @property
    def hops(self) -> int | None:
        """Steps from the edited fact to the one-hop question's answer; None without one.

        `new_single_hops` lists the edited fact and every step after it; where it is absent, the
        schema's name says one.
        """
        if self.one_hop_question is None:
            return None
        return max(1, len(self.new_single_hops) - 1)

    @property
    def changes_nothing(self) -> bool:
        """Whether the edit teaches what is true already."""
        edit = self.knowledge_edit
        return name_key(edit.answer_new) == name_key(edit.answer_true)

    def extra_probe(self, kind: str) -> ExtraLocality | None:
        """The record's extra locality probe of a kind, where it has one."""
        return next((extra for extra in self.extra_locality if extra.kind == kind), None)

    def text_question_about(self, probe: SameTypeQuestion | DiffTypeQuestion) -> str:
        """The text form of a same-type or different-type probe.

        Part of the authors' files leave it out; it is then the edit's question with the subject
        replaced by the probe's entity wherever it is named.

        Raises:
            DataError: the form is absent and the edit's question does not name the subject, or
                only as a part of a longer word.
        """
        if probe.question is not None:
            return probe.question
        entity = (
            probe.same_type_entity
            if isinstance(probe, SameTypeQuestion)
            else probe.diff_type_entity
        )
        question = self.knowledge_edit.question
        named = mentions(question, self.subject)
        if not named:
            inside = bool(mentions(question, self.subject, inside_words=True))
            how = "only as a part of a longer word" if inside else "not at all"
            raise DataError(
                f"the probe about {entity!r} has no text question, and the edit's question "
                f"{question!r} does not name the subject {self.subject!r} ({how}), so none can be "
                "derived. Add the field `question` to the probe."
            )
        for start, end in reversed(named):
            question = question[:start] + entity + question[end:]
        return question


NumberedRecord = tuple[int, Record]


class PicturedEdit(KnowledgeEdit):
    """The edited fact, with the question about a picture."""

    image_question: Text


class PicturedRephrase(RephraseQuestion):
    """The same fact in other words, with the question about a picture."""

    rephrase_image_question: Text


class PicturedHop(OneHopQuestion):
    """The one-hop question, with the question about a picture."""

    one_hop_image_question: Text
    answer_true: Text


class TmkeRecord(Record):
    """A record of the benchmark's own files, where no probe and no picture is missing."""

    entity_type: Text
    knowledge_edit: PicturedEdit
    rephrase_question: PicturedRephrase
    one_hop_question: PicturedHop
    same_type_entity_question: SameTypeQuestion
    diff_type_entity_question: DiffTypeQuestion
    locality_question: Question
    image_locality_question: Question
    image: Picture
    image_rephrase: Picture
    same_entity_image: Picture
    diff_entity_image: Picture
    locality_image: Picture


def name_key(name: str) -> str:
    """Equal for two spellings of one name: in case, composition, width and blanks.

    Unicode's NFKC, case folding, and one blank for several.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return " ".join(folded.split())


def field_errors(error: ValidationError) -> str:
    """What is wrong with a record: each field with its mistake and its value."""
    return "; ".join(
        f"{'.'.join(str(part) for part in mistake['loc']) or 'record'}: {_described(mistake)}"
        for mistake in error.errors()
    )


def _described(mistake: Mapping[str, Any]) -> str:
    message = mistake["msg"].removeprefix("Value error, ")
    value = mistake["input"]
    if mistake["type"] == "missing":
        return message
    if mistake["type"] == "string_type" and type(value) in (int, float):
        message = "a text is needed; put the number in quotes"
    shown = ascii(value) if isinstance(value, str) else repr(value)
    return f"{message} (it is {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'})"
