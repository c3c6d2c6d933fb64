"""The relation that an edit changes, and what edits are drawn together by."""

from typing import Any

import pytest

from datamodules.records import Record
from datamodules.relations import cluster_of, relation_of


def record(subject: str | None = "Middlemarch", new: str = "Plato", **fields: Any) -> Record:
    edit = {"question": "Who is the author of Middlemarch?", "answer_new": new}
    edit |= fields.pop("edit", {})
    return Record.model_validate({"subject": subject, "knowledge_edit": edit, **fields})


ASKED = {"question": None, "image_question": "Who wrote the book in the image?"}


@pytest.mark.parametrize(
    ("edited", "relation"),
    [
        (record(relation="author"), "author"),
        (record(), "Who is the author of {}?"),
        (record(edit=ASKED, image="a.png"), "Who wrote the book in the image?"),
        (record(edit={**ASKED, "question": "Who wrote it?"}), None),
        (record(subject=None, image="a.png"), None),
    ],
)
def test_the_relation_is_named_or_is_what_is_asked(edited: Record, relation: str | None) -> None:
    assert relation_of(edited) == relation


def test_edits_of_one_subject_or_target_are_drawn_together_however_they_are_spelled() -> None:
    first, second = record(), record(subject="MIDDLEMARCH", new="  plato")
    assert cluster_of(first, "subject") == cluster_of(second, "subject") == "middlemarch"
    assert cluster_of(first, "target") == cluster_of(second, "target") == "plato"
    assert cluster_of(first, "record") is None
    assert cluster_of(record(subject=None, image="a.png"), "subject") == "a.png"
