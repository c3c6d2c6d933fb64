"""data=mcmke: MC-MKE's facts, each edited in text and of a picture (Zhang et al., ACL 2025).

The files of `sro_edit/` edit a triple (subject, relation, object) in text, those of `iro_edit/` the
same triple asked of a picture. `data.direction` says whose edits are read: `text`, for the unimodal
and the transitive scenario (their "consistency" of a text edit), or `picture`, for the multimodal
one. Where the other form of the fact is there, a record has both. Answers have aliases. Paths of
pictures are those of the authors' machine: the name of the file counts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple

from datamodules.drawn import by_relation, draw_different_type, draw_same_type
from datamodules.forms import Form
from datamodules.looks import Look
from datamodules.mcmke_files import (
    PICTURE_FILES,
    PICTURE_PAIRS,
    TEXT_FILES,
    TEXT_PAIRS,
    File,
    Lines,
    McmkeRecord,
    PictureEdit,
    PictureFact,
    PictureGenerality,
    PictureLocality,
    TextEdit,
    TextFact,
    TextGenerality,
    TextLocality,
    read_lines,
)
from datamodules.record_files import read_record_files
from datamodules.records import KnowledgeEdit, Question, Record, RephraseQuestion, name_key
from datamodules.source import DataOptions, RecordSource, missing_root
from errors import DataError
from options import TypedPath

Direction = Literal["text", "picture"]
_SHOWN = re.compile(r"\bthe ((?:(?!the\b)[\w'-]+ ){1,4})in the picture")


def to_record(lines: McmkeRecord) -> Record:
    """All lines of a fact, as a record.

    Raises:
        DataError: the two forms edit different facts.
    """
    text, picture = lines.sro_edit, lines.iro_edit
    triple = text or picture
    if triple is None:
        raise DataError("has neither a text form nor one of a picture")
    if text is not None and picture is not None and _fact(text) != _fact(picture):
        raise DataError(
            f"edits {_fact(text)} in text and {_fact(picture)} of a picture, which are not one fact"
        )
    answers: dict[str, Any] = {
        "answer_new": triple.new_o,
        "answer_true": triple.o,
        "answer_new_aliases": tuple(triple.new_o_alias),
    }
    in_text = _asked(text, lines.sro_text_generality, lines.sro_locality)
    shown = _asked(picture, lines.iro_text_generality, lines.iro_locality)
    entity_type = _SHOWN.search(shown.question) if shown.question else None
    image = picture.images[0] if picture is not None else None
    others = lines.iro_image_generality.generality_images if lines.iro_image_generality else []
    rephrased = in_text.rephrase is not None or shown.rephrase is not None
    return Record(
        subject=triple.s,
        relation=triple.r,
        entity_type=entity_type[1].strip() if entity_type else None,
        knowledge_edit=KnowledgeEdit(
            question=in_text.question, image_question=shown.question, **answers
        ),
        rephrase_question=RephraseQuestion(
            rephrase_question=in_text.rephrase, rephrase_image_question=shown.rephrase, **answers
        )
        if rephrased
        else None,
        locality_question=in_text.far,
        image_locality_question=shown.far,
        image=image,
        image_rephrase=next((other for other in others if other != image), None),
        locality_image=shown.far_image,
    )


class _Asked(NamedTuple):
    """What one form of a fact asks; all is absent where the form is."""

    question: str | None = None
    rephrase: str | None = None
    far: Question | None = None
    far_image: str | None = None


def _asked(
    edit: TextEdit | PictureEdit | None,
    generality: TextGenerality | PictureGenerality | None,
    locality: TextLocality | PictureLocality | None,
) -> _Asked:
    """What the lines of one form ask."""
    if edit is None:
        return _Asked()
    rephrase = _another(edit.question, generality.paraphrases if generality else [])
    if locality is None:
        return _Asked(edit.question, rephrase)
    facts: Iterable[TextFact | PictureFact] = locality.locality_test_dict.values()
    fact = next(iter(facts))
    far = Question(
        question=fact.question,
        answer=fact.orig_loc_output_ent,
        answer_aliases=tuple(fact.orig_loc_output_ent_alias),
    )
    image = fact.image if isinstance(fact, PictureFact) else None
    return _Asked(edit.question, rephrase, far, image)


def _fact(edit: TextEdit | PictureEdit) -> tuple[str, str, str, str]:
    return edit.s, edit.r, edit.o, edit.new_o


def _another(question: str, paraphrases: Sequence[str]) -> str | None:
    """The first paraphrase in other words."""
    own = name_key(question)
    return next((text for text in paraphrases if name_key(text) != own), None)


class McmkeData(DataOptions):
    """MC-MKE's files; configs/data/mcmke.yaml explains the keys."""

    licence: ClassVar[str | None] = None
    origin: ClassVar[str | None] = "https://arxiv.org/abs/2406.13219"
    looks: ClassVar[tuple[Look, ...]] = (
        Look.of("s r o new_o question sro_edit_input_idx"),
        Look.of("s r o new_o iro_question iro_edit_input_idx"),
    )

    root: TypedPath
    image_root: TypedPath | None
    direction: Direction
    draw: bool

    def problems(self, command: str) -> list[str]:
        """The folder has to be there; the benchmark has no training records."""
        problems = missing_root(self.root)
        if command == "train" and self.train is None:
            problems.append(
                f"data={self.name} is a test set: name the source to train on, as data.train=zsre"
            )
        return problems

    def read(self) -> RecordSource:
        """Reads the files."""
        root = Path(self.root)
        in_text = self.direction == "text"
        files, others = (TEXT_FILES, PICTURE_FILES) if in_text else (PICTURE_FILES, TEXT_FILES)
        paired = TEXT_PAIRS if in_text else PICTURE_PAIRS
        read = partial(read_lines, root, broken_lines=self.on_error == "skip")
        tables = {file.part: read(file) for file in (*files[1:], *others, paired)}
        return read_record_files(
            root,
            Form(
                "MC-MKE",
                partial(_joined, files=files, others=others, pairs=paired, tables=tables),
                id_field=files[0].number,
                complete=_complete if self.draw else None,
            ),
            name=self.name,
            files=(files[0].path,),
            image_root=Path(self.image_root) if self.image_root else None,
            seed=self.seed,
            filter_known=self.filter_known,
            on_error=self.on_error,
            allow_overlap=self.allow_overlap,
        )


def _joined(
    value: Any,
    *,
    files: Sequence[File],
    others: Sequence[File],
    pairs: File,
    tables: Mapping[str, Lines],
) -> Record:
    """The record of a line of edits, with the lines of the other files.

    Raises:
        ValidationError: a line breaks the schema.
        DataError: the two forms edit different facts.
    """
    own = files[0]
    number = value.get(own.number) if isinstance(value, Mapping) else None
    parts = {own.part: value}
    if isinstance(number, int):
        parts |= {f.part: line for f in files[1:] if (line := tables[f.part].get(number))}
        other = (tables[pairs.part].get(number) or {}).get(pairs.part)
        if isinstance(other, int):
            parts |= {f.part: tables[f.part].get(other) for f in others}
    return to_record(McmkeRecord.model_validate(parts))


def _complete(records: Sequence[Record], seed: int) -> Sequence[Record]:
    return draw_different_type(draw_same_type(records, seed, by_relation), seed)


SOURCE = McmkeData
