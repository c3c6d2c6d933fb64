"""What a language model adds to a row, and the file that keeps both.

    DIR/answers.jsonl    one line a row: {"row": {...}, "answers": {...}}

It is written whole after asking; what was paid for is in the journal. All later steps (records,
the page on which they are reviewed, a world) read it and ask nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from construction.rows import Row
from datamodules.json_file import read_list
from datamodules.records import Text, field_errors
from errors import DataError
from results.files import write_text

ANSWERS = "answers.jsonl"


class Answers(BaseModel):
    """What is known about a row after asking (paper, Tables 7-9).

    Attributes:
        entity_type: what the subject is (Table 7), or the row's own.
        paraphrase: the question in other words, which still name the subject (Table 8).
        same_type_entity: another subject of that type (Table 9).
        same_type_answer: what is true of it: its answer to the row's question.
        one_hop_question: question and second fact as one question that names the subject and not
            the new answer; None where the row has no second fact.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entity_type: Text
    paraphrase: Text
    same_type_entity: Text
    same_type_answer: Text
    one_hop_question: Text | None = None


class AnsweredRow(BaseModel):
    """A row with its answers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    row: Row
    answers: Answers


def write_answers(path: Path, answered: Iterable[AnsweredRow]) -> None:
    """Writes rows with their answers, one a line."""
    write_text(path, "".join(f"{one.model_dump_json(exclude_none=True)}\n" for one in answered))


def read_answers(path: Path) -> list[AnsweredRow]:
    """Rows with their answers, in the order of the file.

    Raises:
        DataError: the file is absent, broken or of another form.
    """
    answered = []
    for element in read_list(path, "answers"):
        try:
            answered.append(AnsweredRow.model_validate(element.value))
        except ValidationError as error:
            raise DataError(
                f"line {element.line} of {path}: {field_errors(error)}. It is written by "
                "`python -m construction`: ask again, which pays nothing twice."
            ) from error
    return answered
