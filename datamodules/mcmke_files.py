"""MC-MKE's files as published: several of one line per edit, put together by its number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field

from datamodules.json_file import read_list
from datamodules.records import Part, Picture, Text
from errors import DataError


def _file_name(path: object) -> object:
    """The name of a file whose path is that of another machine."""
    return PurePosixPath(path).name if isinstance(path, str) else path


FileName = Annotated[Picture, BeforeValidator(_file_name)]
Names = list[Text]


class File(NamedTuple):
    """One of the files.

    Attributes:
        part: what its lines are in a record.
        number: the field with the number of the edit.
    """

    part: str
    path: str
    number: str


_SRO, _IRO = "edit_inputs/sro_edit", "edit_inputs/iro_edit"
_SRO_NUMBER, _IRO_NUMBER = "sro_edit_input_idx", "iro_edit_input_idx"
TEXT_EDITS = File(
    "sro_edit",
    f"{_SRO}/final_new_sro_edits_input_cloze.alias.indexed.locality.explore3.upper_first."
    "category_fix.locality.jsonl",
    _SRO_NUMBER,
)
PICTURE_EDITS = File(
    "iro_edit", f"{_IRO}/final_iro_edits_inputs.cloze.alias.explore3.locality.jsonl", _IRO_NUMBER
)
TEXT_FILES: Sequence[File] = (
    TEXT_EDITS,
    File("sro_text_generality", f"{_SRO}/final_sro_text_generality_test.jsonl", _SRO_NUMBER),
    File("sro_locality", f"{_SRO}/final_sro_test_locality.jsonl", _SRO_NUMBER),
)
PICTURE_FILES: Sequence[File] = (
    PICTURE_EDITS,
    File("iro_text_generality", f"{_IRO}/final_iro_text_generality.jsonl", _IRO_NUMBER),
    File("iro_image_generality", f"{_IRO}/final_iro_image_generality.jsonl", _IRO_NUMBER),
    File("iro_locality", f"{_IRO}/final_iro_test_locality.jsonl", _IRO_NUMBER),
)
# The number of the other form's edit of the same fact.
TEXT_PAIRS = File(
    "consistency_iro_edit_input_idx", f"{_SRO}/final_sro_consistency.jsonl", _SRO_NUMBER
)
PICTURE_PAIRS = File("consistency_sro_edit_idx", f"{_IRO}/final_iro_consistency.jsonl", _IRO_NUMBER)
Lines = Mapping[int, Any]


class Triple(Part):
    """What both forms of an edit say."""

    s: Text
    r: Text
    o: Text
    new_o: Text
    new_o_alias: Names


class TextEdit(Triple):
    """A line of `TEXT_EDITS`."""

    question: Text


class PictureEdit(Triple):
    """A line of `PICTURE_EDITS`."""

    question: Text = Field(alias="iro_question")
    images: Annotated[list[FileName], Field(min_length=1)]


class TextGenerality(Part):
    """Paraphrases of the text question; the first is the question itself."""

    paraphrases: Names = Field(alias="sro_question_paraphrases")


class PictureGenerality(Part):
    """Paraphrases of the question about a picture."""

    paraphrases: Names = Field(alias="iro_question_paraphrases")


class ImageGenerality(Part):
    """Other pictures of the subject."""

    generality_images: list[FileName]


class TextFact(Part):
    """Another fact in text."""

    question: Text = Field(alias="sro_question")
    orig_loc_output_ent: Text
    orig_loc_output_ent_alias: Names


class PictureFact(Part):
    """Another fact about another picture."""

    image: FileName
    question: Text = Field(alias="iro_question")
    orig_loc_output_ent: Text
    orig_loc_output_ent_alias: Names


class TextLocality(Part):
    """Facts that the edit must leave alone, by the numbers of their edits."""

    locality_test_dict: Annotated[dict[str, TextFact], Field(min_length=1)]


class PictureLocality(Part):
    """The same about pictures."""

    locality_test_dict: Annotated[dict[str, PictureFact], Field(min_length=1)]


class McmkeRecord(Part):
    """All lines of one fact; the parts of a form that it has are all there."""

    sro_edit: TextEdit | None = None
    sro_text_generality: TextGenerality | None = None
    sro_locality: TextLocality | None = None
    iro_edit: PictureEdit | None = None
    iro_text_generality: PictureGenerality | None = None
    iro_image_generality: ImageGenerality | None = None
    iro_locality: PictureLocality | None = None


def read_lines(root: Path, file: File, *, broken_lines: bool) -> Lines:
    """The lines of a file, by the number of their edit.

    Args:
        root: the folder that holds `edit_inputs/`.
        file: one of the files.
        broken_lines: whether lines that are no JSON are left out; their edits lack this part.

    Raises:
        DataError: the file is missing or broken, or two lines have one number.
    """
    path, by_number = root / file.path, dict[int, Any]()
    for element in read_list(path, "lines", broken_lines=broken_lines):
        number = element.value.get(file.number) if isinstance(element.value, Mapping) else None
        if not isinstance(number, int):
            if element.mistake is None and not broken_lines:
                raise DataError(
                    f"line {element.line} of {path} has no {file.number}, the number of its edit. "
                    "Correct it, or fetch the file again."
                )
            continue
        if number in by_number:
            raise DataError(
                f"line {element.line} of {path} has the {file.number} of an earlier line, "
                f"{number}. Take one of them out."
            )
        by_number[number] = element.value
    return by_number
