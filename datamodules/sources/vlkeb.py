"""data=vlkeb: VLKEB's edits of what a picture shows (Huang et al., 2024).

A picture of `pred` is to be taken for `alt`. There is no text question and no other entity to ask
about. `src` was written for `alt` and not for what the picture shows, so it tells nobody whether a
model knows the picture: no true answer is read. The question that takes the edit and more is about
the picture; `data.hop` says how many steps it has, where the files have several.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field

from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.picture_edits import PictureEdit, QuestionAndAnswer, entity_name
from datamodules.record_files import RecordFileOptions
from datamodules.records import OneHopQuestion, Part, Question, Record, Text
from options import TypedPath

PICTURES = "mmkb_images"  # the folder of the published pictures


class EditedHop(Part):
    """Of eval_edit_onehop.json: the question about the picture, and the fact that it takes."""

    port_edit_q: Text
    port_edit_a: Text
    port_q: Text
    port_a: Text


class Hop(Part):
    """Of eval_multihop.json: a question about the picture of so many steps."""

    port_type: Annotated[str, Field(pattern=r"^[1-4]-hop$")]
    asked: QuestionAndAnswer = Field(alias="Q&A")

    @property
    def steps(self) -> int:
        """From the edit to the answer."""
        return int(self.port_type[0])


class VlkebRecord(PictureEdit):
    """A record as it stands in a file.

    Attributes:
        pred: what the picture shows.
    """

    pred: Text
    port_new: tuple[Hop | EditedHop, ...] = ()


def to_record(value: Any, *, hop: int) -> Record:
    """What stands in a file, as a record.

    Args:
        value: an object of the file.
        hop: steps of the question that takes more than the edit.

    Raises:
        ValidationError: it breaks the schema.
    """
    read = VlkebRecord.model_validate(value)
    for port in read.port_new:
        if isinstance(port, EditedHop) and hop == 1:
            chain = [
                Question(question=read.src, answer=read.alt),
                Question(question=port.port_edit_q, answer=port.port_edit_a),
            ]
            asked = OneHopQuestion(one_hop_image_question=port.port_q, answer_new=port.port_a)
            return read.record(subject=entity_name(read.pred), hop=asked, chain=chain)
        if isinstance(port, Hop) and port.steps == hop:
            asked = OneHopQuestion(
                one_hop_image_question=port.asked.Question,
                answer_new=port.asked.Answer,
                steps=hop,
            )
            return read.record(subject=entity_name(read.pred), hop=asked)
    return read.record(subject=entity_name(read.pred))


class VlkebData(RecordFileOptions):
    """VLKEB's files; configs/data/vlkeb.yaml explains the keys."""

    has_text: ClassVar[bool] = False
    says_true: ClassVar[bool] = False
    licence: ClassVar[str | None] = "BSD-3-Clause"
    origin: ClassVar[str | None] = "https://github.com/VLKEB/VLKEB"
    entity_folders: ClassVar[bool] = True  # named for Freebase's number of the entity
    looks: ClassVar[tuple[Look, ...]] = (
        Look.of(
            "src alt rephrase image m_loc",
            lacks="textual_edit knowledge_type",
            image=r"(.*[/\\])?m\.\w+[/\\]",  # wherever that lies: a wrong path is told of as such
        ),
    )

    image_root: TypedPath | None
    hop: int = Field(ge=1, le=4)

    def form(self) -> Form:
        """How a record is written."""
        return Form("VLKEB", lambda value: to_record(value, hop=self.hop))

    def pictures(self) -> Path:
        """The folder of the pictures."""
        return Path(self.image_root) if self.image_root else Path(self.root) / PICTURES


SOURCE = VlkebData
