"""data=cckeb: CCKEB's text edits with VLKEB's pictures of the same entity (MemEIC, NeurIPS 2025).

A record of CCKEB edits in text a fact of the entity that VLKEB calls `alt`, and asks about that
fact in "the individual in the picture". The pictures of the entity stand in VLKEB's own files, with
the record whose `pred` has the same name: joined, the two are a transitive benchmark. An edit of an
entity that the named files of VLKEB do not picture twice is left out and listed, whatever
`data.on_error` says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, ValidationError

from datamodules.drawn import by_wording, draw_same_type
from datamodules.forms import Form
from datamodules.json_file import read_list
from datamodules.left_out import NotJoinedError
from datamodules.looks import Look
from datamodules.picture_edits import PictureEdit, QuestionAndAnswer, entity_name, text_locality
from datamodules.record_files import RecordFileOptions
from datamodules.records import (
    KnowledgeEdit,
    Part,
    Record,
    RephraseQuestion,
    Text,
    field_errors,
    name_key,
)
from datamodules.source import folder_problem, look_alike
from datamodules.sources.vlkeb import PICTURES, VlkebRecord
from errors import DataError
from options import Files, TypedPath

Pictures = Mapping[str, Sequence[str]]  # name of an entity, in any spelling -> its pictures


class TextualEdit(Part):
    """The edit in text; of several answers the first one counts, and the others are its aliases."""

    src: Text
    rephrase: Text
    pred: Annotated[list[Text], Field(min_length=1)]
    alt: Annotated[list[Text], Field(min_length=1)]
    loc: Text
    loc_ans: Text


class Composed(Part):
    """The question that asks for the edited fact of a picture."""

    asked: QuestionAndAnswer = Field(alias="Q&A")


class CckebRecord(PictureEdit):
    """A record as it stands in a file: one of VLKEB, and the edit in text about its `alt`."""

    textual_edit: TextualEdit
    port_new: Annotated[list[Composed], Field(min_length=1)]


def to_record(value: Any, *, pictures: Pictures) -> Record:
    """What stands in a file, as a record.

    Raises:
        ValidationError: it breaks the schema.
        NotJoinedError: its entity is not pictured twice.
    """
    read = CckebRecord.model_validate(value)
    edit, subject = read.textual_edit, entity_name(read.alt)
    images = pictures.get(name_key(subject), ())
    if len(images) < 2:
        which = "one picture" if images else "no picture"
        raise NotJoinedError(
            f"the files of VLKEB have {which} of {subject!r}, and two are needed", subject
        )
    answers: dict[str, Any] = {
        "answer_new": edit.alt[0],
        "answer_true": edit.pred[0],
        "answer_new_aliases": tuple(edit.alt[1:]),
    }
    return Record(
        subject=subject,
        knowledge_edit=KnowledgeEdit(
            question=edit.src, image_question=read.port_new[0].asked.Question, **answers
        ),
        rephrase_question=RephraseQuestion(rephrase_question=edit.rephrase, **answers),
        locality_question=text_locality(edit.loc, edit.loc_ans),
        image_locality_question=read.picture_locality(),
        image=images[0],
        image_rephrase=images[1],
        locality_image=read.m_loc,
    )


def read_pictures(root: Path, files: Sequence[str]) -> Pictures:
    """The pictures of VLKEB's entities, in the order of the files.

    Raises:
        DataError: there is no file, or a record in one is none of VLKEB's.
    """
    names = list(files) or sorted(path.name for path in root.glob("*.json"))
    if not names:
        raise DataError(
            f"data.vlkeb_root {root} holds no *.json file of VLKEB, whose pictures CCKEB's edits "
            "are joined with. Point it at VLKEB's folder."
        )
    pictures: dict[str, dict[str, None]] = {}
    for name in names:
        for index, element in enumerate(read_list(root / name, "records")):
            if (other := look_alike(element.value)) not in (None, "vlkeb"):
                raise DataError(
                    f"record {index} of {root / name} is a record of data={other}, and "
                    "data.vlkeb_files needs VLKEB's: name them, as data.vlkeb_files=[eval.json]."
                )
            try:
                read = VlkebRecord.model_validate(element.value)
            except ValidationError as error:
                raise DataError(
                    f"record {index} of {root / name} breaks the VLKEB schema: "
                    f"{field_errors(error)}. Correct the record, or name VLKEB's files alone, as "
                    "data.vlkeb_files=[eval.json]."
                ) from error
            of_entity = pictures.setdefault(name_key(entity_name(read.pred)), {})
            of_entity |= dict.fromkeys((read.image, read.image_rephrase))
    return {name: tuple(images) for name, images in pictures.items()}


class CckebData(RecordFileOptions):
    """CCKEB's files beside VLKEB's; configs/data/cckeb.yaml explains the keys."""

    licence: ClassVar[str | None] = "BSD-3-Clause (CCKEB and VLKEB)"
    origin: ClassVar[str | None] = "MemEIC (NeurIPS 2025) and https://github.com/VLKEB/VLKEB"
    entity_folders: ClassVar[bool] = True  # named for Freebase's number of the entity
    looks: ClassVar[tuple[Look, ...]] = (Look.of("src alt textual_edit port_new m_loc"),)

    vlkeb_root: TypedPath
    vlkeb_files: Files
    image_root: TypedPath | None
    draw: bool

    def problems(self, command: str) -> list[str]:
        """Both folders have to be there."""
        problem = folder_problem(self.vlkeb_root)
        of_vlkeb = [] if problem is None else [f"data.vlkeb_root={self.vlkeb_root}: {problem}"]
        return [*super().problems(command), *of_vlkeb]

    def form(self) -> Form:
        """How a record is written."""
        pictures = read_pictures(Path(self.vlkeb_root), self.vlkeb_files or ())
        complete = partial(draw_same_type, relation=by_wording) if self.draw else None
        return Form("CCKEB", partial(to_record, pictures=pictures), complete=complete)

    def pictures(self) -> Path:
        """The folder of the pictures."""
        return Path(self.image_root) if self.image_root else Path(self.vlkeb_root) / PICTURES


SOURCE = CckebData
