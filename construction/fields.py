"""What a reviewer may change of a record: its texts by name, and the parts that can be left out.

One text often stands in several places of a record (the new answer stands beside the edit, beside
the paraphrase and in the chain); a change is made in all of them, so that they cannot part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import ValidationError

from datamodules.mentions import mentions
from datamodules.records import Record, field_errors
from errors import DataError

Path = tuple[str | int, ...]


class Field(NamedTuple):
    """A text that may be changed.

    Attributes:
        name: in decisions.
        label: on the page.
        paths: where it stands in a record; the first place has it if any has.
        kind: `question`, `shown` (a question about a picture), `answer` or `name`.
    """

    name: str
    label: str
    paths: tuple[Path, ...]
    kind: str


class Part(NamedTuple):
    """Fields that belong together, and what goes if they are left out.

    Attributes:
        name: in decisions, where the part is left out.
        fields: its texts.
        pictures: fields of the record that name its pictures.
        drops: what is absent once it is left out; nothing: it cannot be.
    """

    name: str
    label: str
    fields: tuple[Field, ...]
    pictures: tuple[str, ...] = ()
    drops: tuple[str, ...] = ()


def _field(name: str, label: str, kind: str, *paths: str) -> Field:
    parsed = (tuple(int(p) if p.isdigit() else p for p in path.split(".")) for path in paths)
    return Field(name, label, tuple(parsed), kind)


_EDIT = "knowledge_edit"
_REPHRASE = "rephrase_question"
_HOP = "one_hop_question"
_SAME = "same_type_entity_question"
_DIFFERENT = "diff_type_entity_question"
_FAR, _FAR_IMAGE = "locality_question", "image_locality_question"

PARTS: tuple[Part, ...] = (
    Part(
        "edit", "The edit",
        (
            _field("entity_type", "type", "name", "entity_type"),
            _field("question", "question", "question", f"{_EDIT}.question",
                   "single_hops.0.question", "new_single_hops.0.question",
                   "multimodal_hops.1.question"),
            _field("image_question", "about the picture", "shown", f"{_EDIT}.image_question"),
            _field("answer_true", "true answer", "answer", f"{_EDIT}.answer_true",
                   f"{_REPHRASE}.answer_true", "single_hops.0.answer", "multimodal_hops.1.answer"),
            _field("answer_new", "new answer", "answer", f"{_EDIT}.answer_new",
                   f"{_REPHRASE}.answer_new", "new_single_hops.0.answer"),
        ),
        ("image",),
    ),
    Part("unseen", "Another picture of the subject", (), ("image_rephrase",), ("image_rephrase",)),
    Part(
        "paraphrase", "Paraphrase",
        (
            _field("paraphrase", "question", "question", f"{_REPHRASE}.rephrase_question"),
            _field("image_paraphrase", "about the picture", "shown",
                   f"{_REPHRASE}.rephrase_image_question"),
        ),
        (), (_REPHRASE,),
    ),
    Part(
        "one_hop", "One hop",
        (
            _field("one_hop", "question", "question", f"{_HOP}.one_hop_question"),
            _field("image_one_hop", "about the picture", "shown", f"{_HOP}.one_hop_image_question"),
            _field("one_hop_new", "answer after the edit", "answer", f"{_HOP}.answer_new",
                   "new_single_hops.1.answer"),
            _field("one_hop_true", "answer before it", "answer", f"{_HOP}.answer_true",
                   "single_hops.1.answer"),
        ),
        (), (_HOP,),
    ),
    Part(
        "same_type", "Another subject of the type",
        (
            _field("same_type_entity", "subject", "name", f"{_SAME}.same_type_entity"),
            _field("same_type_question", "question", "question", f"{_SAME}.question"),
            _field("same_type_image_question", "about its picture", "shown",
                   f"{_SAME}.image_question"),
            _field("same_type_answer", "answer", "answer", f"{_SAME}.answer"),
        ),
        ("same_entity_image",), (_SAME, "same_entity_image"),
    ),
    Part(
        "different_type", "A subject of another type",
        (
            _field("diff_type_entity", "subject", "name", f"{_DIFFERENT}.diff_type_entity"),
            _field("diff_type_question", "question", "question", f"{_DIFFERENT}.question"),
            _field("diff_type_image_question", "about its picture", "shown",
                   f"{_DIFFERENT}.image_question"),
            _field("diff_type_answer", "answer", "answer", f"{_DIFFERENT}.answer"),
        ),
        ("diff_entity_image",), (_DIFFERENT, "diff_entity_image"),
    ),
    Part(
        "locality", "What has nothing to do with it",
        (
            _field("locality_question", "question", "question", f"{_FAR}.question"),
            _field("locality_answer", "answer", "answer", f"{_FAR}.answer"),
        ),
        (), (_FAR,),
    ),
    Part(
        "image_locality", "The same about a picture",
        (
            _field("image_locality_question", "question", "question", f"{_FAR_IMAGE}.question"),
            _field("image_locality_answer", "answer", "answer", f"{_FAR_IMAGE}.answer"),
        ),
        ("locality_image",), (_FAR_IMAGE, "locality_image"),
    ),
)  # fmt: skip
FIELDS: Mapping[str, Field] = {field.name: field for part in PARTS for field in part.fields}
_ABOUT_SUBJECT = ("question", "paraphrase", "one_hop")  # text questions that name it
DROPS: Mapping[str, tuple[str, ...]] = {part.name: part.drops for part in PARTS if part.drops}


def texts_of(record: Record) -> dict[str, str]:
    """Name of a field -> its text, of the fields that the record has."""
    content = record.model_dump()
    texts = {name: _text_at(content, field.paths[0]) for name, field in FIELDS.items()}
    return {name: text for name, text in texts.items() if text is not None}


def changed(record: Record, texts: Mapping[str, str], left_out: Sequence[str]) -> Record:
    """The record with other texts, and without some parts.

    Args:
        record: stays as it is.
        texts: name of a field that the record has -> its new text.
        left_out: names of parts.

    Raises:
        DataError: there is no such field or part, or a text cannot stand there.
    """
    content: dict[str, Any] = record.model_dump()
    for name, text in texts.items():
        field = FIELDS.get(name)
        if field is None:
            raise DataError(f"{name!r} is no field: {', '.join(FIELDS)} are")
        if _text_at(content, field.paths[0]) is None:
            raise DataError(f"the record has no {name}, which is changed to {text!r}")
        for path in field.paths:
            if _text_at(content, path) is not None:
                _holder(content, path)[path[-1]] = text
    for name in left_out:
        if name not in DROPS:
            raise DataError(f"{name!r} cannot be left out: {', '.join(DROPS)} can")
        content |= dict.fromkeys(DROPS[name])
    if "one_hop" in left_out:
        content |= {"single_hops": content["single_hops"][:1]}
        content |= {"new_single_hops": content["new_single_hops"][:1]}
    content["drawn"] = [name for name in content.get("drawn", ()) if content[name] is not None]
    try:
        edited = Record.model_validate(content)
    except ValidationError as error:
        raise DataError(field_errors(error)) from error
    _check_sense(edited, texts)
    return edited


def _check_sense(record: Record, texts: Iterable[str]) -> None:
    """Refuses changes that make an edit of nothing, or questions that ask something else.

    Raises:
        DataError: with the field and why.
    """
    if record.changes_nothing:
        raise DataError("answer_new is the same as answer_true: nothing would be edited")
    subject, now = record.subject or "", texts_of(record)
    for name in texts:
        names_subject = bool(mentions(now.get(name, ""), subject))
        if name in _ABOUT_SUBJECT and name in now and not names_subject:
            raise DataError(f"{name} {now[name]!r} does not name the subject {subject!r}")
        if FIELDS[name].kind == "shown" and names_subject:
            raise DataError(
                f"{name} {now[name]!r} names the subject {subject!r}, which its picture shows"
            )


def _holder(content: Any, path: Path) -> Any:
    """What holds the last step of a path; None where the way there ends before."""
    for step in path[:-1]:
        if isinstance(content, list) and isinstance(step, int):
            content = content[step] if step < len(content) else None
        else:
            content = content.get(step) if isinstance(content, dict) else None
    return content


def _text_at(content: Any, path: Path) -> str | None:
    holder = _holder(content, path)
    text = holder.get(path[-1]) if isinstance(holder, dict) else None
    return text if isinstance(text, str) else None
