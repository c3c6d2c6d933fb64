"""One record of the benchmark: an edit of one fact and everything that is asked after it.

The schema is the one of the TMKE authors' files (Supplementary, section 3): a fact about a
subject, its counterfactual target, a paraphrase, a one-hop question, a same-type and a
different-type entity, a text and an image question for locality, and the pictures. `TmkeRecord`
(tmke_record.py) demands every field of it. `Record` is what the rest of the project works with: an
edit and its paraphrase, in text, about a picture, or both. What a source has no field for is
absent, and not asked: a world's relation may lead to no one-hop question, text benchmarks have no
picture, edits of pictures no text question and often no subject. A record may carry extra locality
probes that tell near from far, and other names of its answers. A field that came after the first
stored results is written only where a record has it, so that the digests of all other records stay
what they were.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sized
from pathlib import PurePosixPath, PureWindowsPath
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from datamodules.mentions import mentions
from datamodules.renamed_fields import field_names, instead_of
from errors import DataError

_INVISIBLE = {"Cc", "Cf", "Zl", "Zp", "Zs"}  # Unicode's categories of what shows nothing
_MAY_LEAVE = re.compile(r"^/|\.\.|[\\:\0]")
_ADDRESS = re.compile(r"[a-z]{2,}:/", re.IGNORECASE)
_SHOWN = 60  # characters of a value in a message


def visible(text: str) -> str:
    """A text that shows something.

    Raises:
        ValueError: it does not.
    """
    if not text[:1].isalnum() and is_blank(text):  # nearly every text begins so
        raise ValueError("the text holds nothing that can be seen")
    return text


def is_blank(text: str) -> bool:
    """Whether a text shows nothing."""
    return all(unicodedata.category(letter) in _INVISIBLE for letter in text)


def inside_folder(path: str) -> str:
    """A picture's path, if it stays inside the folder of the pictures.

    Raises:
        ValueError: it does not, its folders are parted by a backslash, or it is an address.
    """
    if not _MAY_LEAVE.search(path):  # a world has thousands of paths, and nearly all are such
        return path
    if PurePosixPath(path).is_absolute() or PureWindowsPath(path).is_absolute():
        raise ValueError(
            "a path relative to the folder of the pictures is needed, and this one holds on one "
            "machine alone: write what stands below that folder, such as "
            f"{PureWindowsPath(path).name!r}"
        )
    if "\\" in path:
        raise ValueError("a path has / between its folders, and no backslash")
    if _ADDRESS.match(path):
        raise ValueError("a file is needed, and this is an address: fetch it, and name the file")
    if ".." in PurePosixPath(path).parts:
        raise ValueError("a path inside the folder of the pictures is needed, without ..")
    if "\0" in path:
        raise ValueError("a path holds no zero byte")
    return path


def _is_none(value: object) -> bool:
    return value is None


def _is_empty(value: Sized) -> bool:
    return not value


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(visible)
]
Picture = Annotated[Text, AfterValidator(inside_folder)]
Aliases = Annotated[tuple[Text, ...], Field(exclude_if=_is_empty)]
LocalityKind = Literal["near", "subject"]


class Part(BaseModel):
    """Base of the nested parts: unknown fields are kept out, values cannot change."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class _Worded(Part):
    """Base of the parts that ask in text, about a picture, or both."""

    _TEXT: ClassVar[str]
    _IMAGE: ClassVar[str]

    @property
    def wording(self) -> str:
        """What is asked, in words: the text question where there is one, else that of a picture."""
        text: str | None = getattr(self, self._TEXT)
        image: str = getattr(self, self._IMAGE)
        return image if text is None else text

    @model_validator(mode="after")
    def _asks_something(self) -> Self:
        if getattr(self, self._TEXT) is None and getattr(self, self._IMAGE) is None:
            raise ValueError(f"one of {self._TEXT} and {self._IMAGE} is needed")
        return self


class KnowledgeEdit(_Worded):
    """The edited fact, as a text question, as a question about a picture of the subject, or both.

    Attributes:
        answer_true: None where the source does not say what is true.
        answer_new_aliases: other names of the new answer, which a generated answer may be.
        unseen_question: about the unseen picture, where it is another one than about the seen one.
    """

    _TEXT, _IMAGE = "question", "image_question"

    question: Text | None = None
    image_question: Text | None = None
    answer_new: Text
    answer_true: Text | None = None
    answer_new_aliases: Aliases = ()
    unseen_question: Annotated[Text | None, Field(exclude_if=_is_none)] = None


class RephraseQuestion(_Worded):
    """The same fact in other words (Generality)."""

    _TEXT, _IMAGE = "rephrase_question", "rephrase_image_question"

    rephrase_question: Text | None = None
    rephrase_image_question: Text | None = None
    answer_new: Text
    answer_true: Text | None = None
    answer_new_aliases: Aliases = ()


class OneHopQuestion(_Worded):
    """A question that needs the edited fact and more (Portability).

    Attributes:
        steps: from the edited fact to the answer, where the source says so without listing them.
        image: what its picture question shows, where that is not the record's picture.
    """

    _TEXT, _IMAGE = "one_hop_question", "one_hop_image_question"

    one_hop_question: Text | None = None
    one_hop_image_question: Text | None = None
    answer_new: Text
    answer_true: Text | None = None
    answer_new_aliases: Aliases = ()
    steps: Annotated[int | None, Field(ge=1, exclude_if=_is_none)] = None
    image: Annotated[Picture | None, Field(exclude_if=_is_none)] = None


class SameTypeQuestion(Part):
    """The edit's question about another entity of the subject's type (Stability)."""

    same_type_entity: Text
    image_question: Text | None = None
    answer: Text
    question: Text | None = None
    answer_aliases: Aliases = ()


class DiffTypeQuestion(Part):
    """The edit's question about an entity of another type (Stability)."""

    diff_type_entity: Text
    image_question: Text | None = None
    answer: Text
    question: Text | None = None
    answer_aliases: Aliases = ()


class Question(Part):
    """A question with its answer."""

    question: Text
    answer: Text
    answer_aliases: Aliases = ()


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
    answer_aliases: Aliases = ()


class Record(BaseModel):
    """One edit with its probes. Image fields are paths relative to the source's image folder.

    Attributes:
        subject: None where the source names none, as for a question about any picture.
        is_cloze: the edit's questions and paraphrases are beginnings of sentences that the answer
            continues, and stand without the prompt's template.
        drawn: names of the fields that were drawn from other records, by the source's rule.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    subject: Text | None = None
    entity_type: Text | None = None
    knowledge_edit: KnowledgeEdit
    rephrase_question: RephraseQuestion | None = None
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
    is_cloze: Annotated[bool, Field(exclude_if=lambda is_cloze: not is_cloze)] = False
    drawn: Annotated[tuple[str, ...], Field(exclude_if=_is_empty)] = ()

    @property
    def about(self) -> str:
        """What the record is about, for results: its subject, else its picture, else its words."""
        return self.subject or self.image or self.knowledge_edit.wording

    @property
    def named(self) -> str:
        """The record in a message: `subject 'France'`, or its picture where it has no subject."""
        what = "subject" if self.subject else "picture" if self.image else "question"
        return f"{what} {self.about!r}"

    @property
    def key(self) -> str:
        """Equal for two records that may not stand in two splits: of one subject or picture."""
        return name_key(self.about)

    @property
    def hops(self) -> int | None:
        """Steps from the edited fact to the one-hop question's answer; None without one.

        `new_single_hops` lists the edited fact and every step after it; where it is absent, the
        schema's name says one.
        """
        if self.one_hop_question is None:
            return None
        if self.one_hop_question.steps is not None:
            return self.one_hop_question.steps
        return max(1, len(self.new_single_hops) - 1)

    @property
    def changes_nothing(self) -> bool:
        """Whether the edit teaches what is true already."""
        edit = self.knowledge_edit
        true = edit.answer_true
        return true is not None and name_key(edit.answer_new) == name_key(true)

    def extra_probe(self, kind: str) -> ExtraLocality | None:
        """The record's extra locality probe of a kind, where it has one."""
        return next((extra for extra in self.extra_locality if extra.kind == kind), None)

    def text_fact(self) -> TextFact:
        """The fact that the edit changes, in text.

        Raises:
            DataError: the record lacks a part of it.
        """
        edit = self.knowledge_edit
        parts = {
            "subject": self.subject, "text question": edit.question, "true answer": edit.answer_true
        }  # fmt: skip
        if missing := [name for name, text in parts.items() if text is None]:
            raise DataError(
                f"the record about {self.about!r} has no {' and no '.join(missing)}, and its fact "
                "is needed in text. Use other data."
            )
        return TextFact(*(text for text in parts.values() if text is not None))

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
        question, subject = self.knowledge_edit.question or "", self.subject or ""
        asked = renamed(question, subject, entity)
        if asked is None:
            inside = bool(mentions(question, subject, inside_words=True))
            how = "only as a part of a longer word" if inside else "not at all"
            raise DataError(
                f"the probe about {entity!r} has no text question, and the edit's question "
                f"{question!r} does not name the subject {self.subject!r} ({how}), so none can be "
                "derived. Add the field `question` to the probe."
            )
        return asked


NumberedRecord = tuple[int, Record]


class TextFact(NamedTuple):
    """A fact in text: whom it is about, how it is asked, what is true."""

    subject: str
    question: str
    answer: str


def renamed(question: str, subject: str, entity: str) -> str | None:
    """A question with another entity wherever the subject is named; None where it is not."""
    named = mentions(question, subject)
    for start, end in reversed(named):
        question = question[:start] + entity + question[end:]
    return question if named else None


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
        field = str(mistake["loc"][-1])
        return message + instead_of(field, value, field_names((Part, Record)))
    if mistake["type"] in ("tuple_type", "list_type"):
        message = "a list is needed"
    if mistake["type"] == "string_type" and type(value) in (int, float):
        message = "a text is needed; put the number in quotes"
    shown = ascii(value) if isinstance(value, str) else repr(value)
    return f"{message} (it is {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'})"
