"""The file of rows with their answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from construction.answers import AnsweredRow, Answers, read_answers, write_answers
from construction.rows import Row
from errors import DataError
from tests.unit.construction.test_rows import RANKIN, WOMAN

NOVEL = Answers(
    entity_type="novel",
    paraphrase="Who wrote The French Lieutenant's Woman?",
    same_type_entity="Middlemarch",
    same_type_answer="George Eliot",
)
PERSON = Answers(
    entity_type="person",
    paraphrase="What does George Rankin do for a living?",
    same_type_entity="Leo Messi",
    same_type_answer="Professional footballer",
    one_hop_question="What does one with George Rankin's occupation work with?",
)


def answered() -> list[AnsweredRow]:
    return [
        AnsweredRow(row=Row.model_validate(WOMAN), answers=NOVEL),
        AnsweredRow(row=Row.model_validate(RANKIN), answers=PERSON),
    ]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_answers(tmp_path / "answers.jsonl", answered())
    assert read_answers(tmp_path / "answers.jsonl") == answered()


def test_a_line_of_another_form_is_named(tmp_path: Path) -> None:
    path = tmp_path / "answers.jsonl"
    write_answers(path, answered())
    path.write_text(path.read_text().replace("Middlemarch", " "))
    with pytest.raises(DataError, match=r"line 1 of .*answers.same_type_entity"):
        read_answers(path)
