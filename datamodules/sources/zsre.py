"""data=zsre: zsRE's questions about relations (Levy et al., 2017), in EasyEdit's flat form.

Text alone: no pictures, and no question about another entity. What the edit must leave alone is a
question of Natural Questions, which the files mark with `nq question: `.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from datamodules.record_files import Form, RecordFileOptions, read_record_files
from datamodules.records import (
    KnowledgeEdit,
    OneHopQuestion,
    Part,
    Question,
    Record,
    RephraseQuestion,
    Text,
)
from datamodules.source import RecordSource

_MARK = "nq question:"


class Portability(Part):
    """The question that takes the edited fact and one more, of the files that have it."""

    new_question: Text = Field(alias="New Question")
    new_answer: Text = Field(alias="New Answer")


class ZsreRecord(Part):
    """A record as it stands in a file.

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


def to_record(value: Any) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    found = ZsreRecord.model_validate(value)
    answers = {"answer_new": found.alt, "answer_true": found.answers[0]}
    hop = found.portability
    return Record(
        subject=found.subject,
        knowledge_edit=KnowledgeEdit(question=found.src, **answers),
        rephrase_question=RephraseQuestion(rephrase_question=found.rephrase, **answers),
        one_hop_question=hop
        and OneHopQuestion(one_hop_question=hop.new_question, answer_new=hop.new_answer),
        locality_question=Question(
            question=found.loc.removeprefix(_MARK).strip() or found.loc, answer=found.loc_ans
        ),
    )


class ZsreData(RecordFileOptions):
    """zsRE's files; configs/data/zsre.yaml explains the keys."""

    has_pictures: ClassVar[bool] = False
    licence: ClassVar[str | None] = "MIT"

    def read(self) -> RecordSource:
        """Reads the files."""
        return read_record_files(
            Path(self.root),
            Form("zsRE", to_record),
            name=self.name,
            files=self.files or (),
            train_files=self.train_files or (),
            seed=self.seed,
            filter_known=self.filter_known,
            on_error=self.on_error,
        )


SOURCE = ZsreData
