"""Questions that have nothing to do with an edit, for rows that bring none: drawn from a file.

    {"question": "Who led the Cuban revolt?", "answer": "José Martí"}
    {"question": "What falls from the sky?", "answer": "snow", "image": "winter.jpg"}

The benchmark takes them from NQ and OK-VQA (Supplementary, "Dataset construction"). What a row gets
depends on its id, the file and the seed alone; nothing that names the row's subject or one of its
answers is drawn.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, ValidationError

from construction.answers import AnsweredRow
from construction.rows import Row
from datamodules.json_file import read_list
from datamodules.mentions import mentions
from datamodules.missing_pictures import check_present
from datamodules.picture_folder import PictureFolder
from datamodules.records import Picture, Text, field_errors
from errors import DataError


class Far(BaseModel):
    """A question, about a picture where it names one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    question: Text
    answer: Text
    image: Picture | None = None


class FarQuestions(NamedTuple):
    """Those of a file, in its order.

    Attributes:
        text: without a picture.
        shown: about one.
    """

    text: tuple[Far, ...] = ()
    shown: tuple[Far, ...] = ()


def read_far_questions(path: Path, pictures: PictureFolder) -> FarQuestions:
    """Reads a file of such questions, JSON lines or a list.

    Raises:
        DataError: it cannot be read, is of another form, or a picture is not there.
    """
    far = []
    for number, element in enumerate(read_list(path, "questions"), start=1):
        try:
            far.append(Far.model_validate(element.value))
        except ValidationError as error:
            where = f"question {number}" if element.line is None else f"line {element.line}"
            raise DataError(
                f"records.locality={path}: {where}: {field_errors(error)}. A question has "
                "`question`, `answer` and, where it is about a picture, `image`."
            ) from error
    check_present(
        (one.image for one in far if one.image is not None), pictures,
        who=f"records.locality={path} names", where=f"pictures={pictures.root}",
        ways="or take such questions out",
    )  # fmt: skip
    return FarQuestions(
        tuple(one for one in far if one.image is None),
        tuple(one for one in far if one.image is not None),
    )


def with_locality(
    answered: Sequence[AnsweredRow], far: FarQuestions, seed: int
) -> list[AnsweredRow]:
    """Rows with a drawn question in text and one about a picture, where they have none of a kind.

    Args:
        answered: the rows, which stay as they are.
        far: what is drawn from.
        seed: of the draws.
    """
    return [
        one.model_copy(update={"row": one.row.model_copy(update=_drawn(one.row, far, seed))})
        for one in answered
    ]


def _drawn(row: Row, far: FarQuestions, seed: int) -> dict[str, str | None]:
    """Columns of the row, with their new values."""
    columns: dict[str, str | None] = {}
    if row.locality_question is None and (one := _draw(row, far.text, f"{seed}/text")):
        columns |= {"locality_question": one.question, "locality_answer": one.answer}
    if row.image_locality_question is None and (one := _draw(row, far.shown, f"{seed}/image")):
        columns |= {
            "image_locality_question": one.question,
            "image_locality_answer": one.answer,
            "locality_image": one.image,
        }
    return columns


def _draw(row: Row, questions: Sequence[Far], seed: str) -> Far | None:
    """The first one in a random order that names nothing of the row."""
    order = list(range(len(questions)))
    random.Random(f"locality/{seed}/{row.id}").shuffle(order)
    names = (row.subject, row.answer_true, row.answer_new)
    for number in order:
        one = questions[number]
        if not any(mentions(f"{one.question} {one.answer}", name) for name in names):
            return one
    return None
