"""Questions of locality for rows that bring none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from construction.locality import Far, FarQuestions, read_far_questions, with_locality
from construction.records import construct_records
from datamodules.picture_folder import PictureFolder
from errors import DataError
from tests.answered_rows import book, draw
from tests.answered_rows import with_locality as complete

TEXT = tuple(Far(question=f"Who led revolt {n}?", answer=f"Leader {n}") for n in range(20))
SHOWN = tuple(
    Far(question=f"What falls in month {n}?", answer="snow", image=f"{n}.png") for n in range(20)
)
FAR = FarQuestions(TEXT, SHOWN)


def test_rows_without_their_own_get_one_and_the_others_keep_theirs() -> None:
    rows = [book(1), complete(book(3), "snow.png")]
    first, second = with_locality(rows, FAR, 0)
    assert second == rows[1]
    record = construct_records([first])[0].record
    assert record.locality_question is not None
    assert record.locality_question.question in [one.question for one in TEXT]
    assert record.image_locality_question is not None
    number = record.image_locality_question.question.removeprefix("What falls in month ")[:-1]
    assert record.locality_image == f"{number}.png", "the picture that the question is about"


def test_a_draw_depends_on_the_row_and_the_seed() -> None:
    rows = [book(n) for n in range(10)]
    drawn = with_locality(rows, FAR, 0)
    assert with_locality(rows[::-1], FAR, 0)[::-1] == drawn
    assert with_locality(rows, FAR, 1) != drawn
    assert len({one.row.locality_question for one in drawn}) > 3


def test_what_names_the_subject_or_an_answer_is_not_drawn() -> None:
    about = [
        Far(question="Is Book 1 old?", answer="yes"), Far(question="Who?", answer="writer 2"),
        Far(question="Did Writer 1 write?", answer="yes"),
    ]  # fmt: skip
    one = with_locality([book(1)], FarQuestions(tuple(about)), 0)[0]
    assert one.row.locality_question is None
    other = with_locality([book(1)], FarQuestions((*about, TEXT[0])), 0)[0]
    assert other.row.locality_question == TEXT[0].question


def test_a_file_is_read(tmp_path: Path) -> None:
    pictures = PictureFolder(draw([book(1)], tmp_path))
    file = tmp_path / "far.jsonl"
    lines = [{"question": "a", "answer": "b"}]
    lines.append({"question": "c", "answer": "d", "image": "book/1_seen.png"})
    file.write_text("\n".join(map(json.dumps, lines)))
    far = read_far_questions(file, pictures)
    assert [one.question for one in far.text] == ["a"]
    assert [(one.question, one.image) for one in far.shown] == [("c", "book/1_seen.png")]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ({"question": "a"}, r"line 1: answer: Field required"),
        ({"question": "a", "answer": "b", "picture": "c"}, r"line 1: picture: Extra inputs"),
        ({"question": "a", "answer": "b", "image": "c.png"}, r"names 1 pictures, .*: c\.png"),
        ({"question": "a", "answer": "b", "image": "/c.png"}, r"line 1: image: a path relative"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, line: object, why: str) -> None:
    file = tmp_path / "far.jsonl"
    file.write_text(json.dumps(line))
    with pytest.raises(DataError, match=f"records.locality={file}.*{why}"):
        read_far_questions(file, PictureFolder(tmp_path))
