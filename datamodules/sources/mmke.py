"""data=mmke: MMKE-Bench's edits in free text (Du et al., 2025).

With `data.edit=description`, as in the benchmark, the picture and `src` get the long new
description `alt`. With `data.edit=relation` the edit is one fact of that description, asked in text
(`rel_1`, or `rel` of visual knowledge) and of the picture (`m_rel_1`, `m_rel`): a record has both
forms where the two answers are the same, and else the text form alone. The files name no subject,
no other entity and nothing that was true before.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import AliasChoices, Field

from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.picture_edits import PictureEdit, QuestionAndAnswer
from datamodules.record_files import RecordFileOptions
from datamodules.records import (
    KnowledgeEdit,
    OneHopQuestion,
    Part,
    Picture,
    Record,
    Text,
    name_key,
)
from options import TypedPath

EditKind = Literal["description", "relation"]


class Hop(Part):
    """The question that takes the description and more."""

    asked: QuestionAndAnswer = Field(alias="Q&A")


class MmkeRecord(PictureEdit):
    """A record as it stands in a file.

    Attributes:
        rel: a text question about the description; with its answer, and of the picture with its.
        one_hop_img: what the question of `port_new` shows, where that is not `image`.
        image_rephrase_question: about `image_rephrase`, where `src` does not fit it.
    """

    knowledge_type: Text
    type_self: Text | None = None
    rel: Text = Field(validation_alias=AliasChoices("rel_1", "rel"))
    rel_ans: Text = Field(validation_alias=AliasChoices("rel_ans_1", "rel_1_ans", "rel_ans"))
    m_rel: Text = Field(validation_alias=AliasChoices("m_rel_1", "m_rel"))
    m_rel_ans: Text = Field(
        validation_alias=AliasChoices("m_rel_ans_1", "m_rel_1_ans", "m_rel_ans")
    )
    port_new: tuple[Hop, ...] = ()
    one_hop_img: Picture | None = None
    image_rephrase_question: Text | None = None

    def hop(self) -> OneHopQuestion | None:
        """The question that takes more, where there is one."""
        if not self.port_new:
            return None
        asked = self.port_new[0].asked
        return OneHopQuestion(
            one_hop_image_question=asked.Question, answer_new=asked.Answer, image=self.one_hop_img
        )

    def relation(self) -> Record:
        """The record whose edit is one fact of the description."""
        is_pair = name_key(self.rel_ans) == name_key(self.m_rel_ans)
        edit = KnowledgeEdit(
            question=self.rel,
            image_question=self.m_rel if is_pair else None,
            answer_new=self.rel_ans,
        )
        return Record(
            knowledge_edit=edit,
            entity_type=self.type_self,
            locality_question=self.text_locality(),
            image_locality_question=self.picture_locality(),
            image=self.image,
            image_rephrase=self.image_rephrase,
            locality_image=self.m_loc,
        )


def to_record(value: Any, *, edit: EditKind) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
    """
    read = MmkeRecord.model_validate(value)
    if edit == "relation":
        return read.relation()
    record = read.record(hop=read.hop(), unseen_question=read.image_rephrase_question)
    return record.model_copy(update={"entity_type": read.type_self})


class MmkeData(RecordFileOptions):
    """MMKE-Bench's files; configs/data/mmke.yaml explains the keys."""

    says_true: ClassVar[bool] = False
    licence: ClassVar[str | None] = None
    origin: ClassVar[str | None] = "https://github.com/MMKE-Bench-ICLR/MMKE-Bench"
    looks: ClassVar[tuple[Look, ...]] = (Look.of("src alt knowledge_type m_loc"),)

    image_root: TypedPath | None
    edit: EditKind

    def edits_text(self) -> bool:
        """The description is asked of its picture alone."""
        return self.edit == "relation"

    def form(self) -> Form:
        """How a record is written."""
        return Form("MMKE-Bench", lambda value: to_record(value, edit=self.edit))

    def pictures(self) -> Path | None:
        """The folder of the pictures."""
        return Path(self.image_root) if self.image_root else None


SOURCE = MmkeData
