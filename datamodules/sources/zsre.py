"""data=zsre: zsRE's questions about relations (Levy et al., 2017), in two forms.

EasyEdit's flat form has the subject and, as what the edit must leave alone, a question of Natural
Questions, which it marks with `nq question: `. The form of MEND's authors has neither: the subject
is the page that the answer was read from, where the question names it. Text alone: no pictures. The
probe about another subject is drawn from the records that ask in the same words.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, ClassVar

from pydantic import Field

from datamodules.drawn import by_wording, draw_same_type
from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.mentions import mentions
from datamodules.picture_edits import text_locality
from datamodules.record_files import RecordFileOptions
from datamodules.records import (
    KnowledgeEdit,
    OneHopQuestion,
    Part,
    Record,
    RephraseQuestion,
    Text,
)


class Portability(Part):
    """The question that takes the edited fact and one more, of the files that have it."""

    new_question: Text = Field(alias="New Question")
    new_answer: Text = Field(alias="New Answer")


class FlatRecord(Part):
    """A record in EasyEdit's form.

    Attributes:
        src: the edit's question.
        alt: its new answer.
        answers: what is true; the first one counts.
        rephrase: the question in other words.
        loc: a question that has nothing to do with it, answered by `loc_ans`.
    """

    subject: Text
    src: Text
    alt: Text
    answers: Annotated[list[Text], Field(min_length=1)]
    rephrase: Text
    loc: Text
    loc_ans: Text
    portability: Portability | None = None

    def record(self) -> Record:
        """The same as a record of the project."""
        answers = {"answer_new": self.alt, "answer_true": self.answers[0]}
        hop = self.portability
        return Record(
            subject=self.subject,
            knowledge_edit=KnowledgeEdit(question=self.src, **answers),
            rephrase_question=RephraseQuestion(rephrase_question=self.rephrase, **answers),
            one_hop_question=hop
            and OneHopQuestion(one_hop_question=hop.new_question, answer_new=hop.new_answer),
            locality_question=text_locality(self.loc, self.loc_ans),
        )


class Page(Part):
    """Where an answer was read."""

    title: Text | None = None


class Output(Part):
    """An answer that is true."""

    answer: Text
    provenance: tuple[Page, ...] = ()


class MendRecord(Part):
    """A record in the form of MEND's authors (Mitchell et al., 2022).

    Attributes:
        input: the edit's question.
        alternatives: answers that are not true; the first one is taught.
        filtered_rephrases: the question in other words; the first that is not `input` is asked.
    """

    input: Text
    output: Annotated[list[Output], Field(min_length=1)]
    alternatives: Annotated[list[Text], Field(min_length=1)]
    filtered_rephrases: list[Text]

    def record(self) -> Record:
        """The same as a record of the project."""
        answers = {"answer_new": self.alternatives[0], "answer_true": self.output[0].answer}
        rephrase = next((text for text in self.filtered_rephrases if text != self.input), None)
        titles = [page.title for page in self.output[0].provenance if page.title is not None]
        return Record(
            subject=next((title for title in titles if mentions(self.input, title)), None),
            knowledge_edit=KnowledgeEdit(question=self.input, **answers),
            rephrase_question=None
            if rephrase is None
            else RephraseQuestion(rephrase_question=rephrase, **answers),
        )


_FLAT = Look.of("src alt rephrase loc", lacks="m_loc textual_edit")
_MEND = Look.of("input alternatives filtered_rephrases output")


def to_record(value: Any) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    if isinstance(value, dict) and _MEND.fits(value):
        return MendRecord.model_validate(value).record()
    return FlatRecord.model_validate(value).record()


class ZsreData(RecordFileOptions):
    """zsRE's files; configs/data/zsre.yaml explains the keys."""

    has_pictures: ClassVar[bool] = False
    licence: ClassVar[str | None] = "MIT"
    origin: ClassVar[str | None] = (
        "https://github.com/zjunlp/EasyEdit, https://github.com/eric-mitchell/mend"
    )
    looks: ClassVar[tuple[Look, ...]] = (_FLAT, _MEND)

    draw: bool

    def form(self) -> Form:
        """How a record is written."""
        complete = partial(draw_same_type, relation=by_wording) if self.draw else None
        return Form("zsRE", to_record, complete=complete)


SOURCE = ZsreData
