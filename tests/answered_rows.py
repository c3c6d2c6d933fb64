"""Rows of a small library with what a language model would add to them, and drawings of it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from PIL import Image, ImageDraw

from construction.answers import AnsweredRow, Answers
from construction.rows import Row

SIDE = 24  # pixels of a drawing


def book(
    number: int, *, pictured: bool = True, named: str = "Emma", **changes: object
) -> AnsweredRow:
    """A row about the author of a book, whose new author is born in a town of that number."""
    subject, new = f"Book {number}", f"Writer {number + 1}"
    row = {
        "subject": subject,
        "question": f"Who is the author of {subject}?",
        "relation": "author",
        "answer_true": f"Writer {number}",
        "answer_new": new,
        "hop_question": f"Where was {new} born?",
        "hop_answer": f"Town {number + 1}",
        "hop_answer_true": f"Town {number}",
        **(pictures("book", number) if pictured else {}),
    }
    answers = Answers(
        entity_type="book",
        paraphrase=f"Who wrote {subject}?",
        same_type_entity=named,
        same_type_answer="Jane Austen",
        one_hop_question=f"Where was the author of {subject} born?",
    )
    return AnsweredRow(row=Row.model_validate({**row, **changes}), answers=answers)


def person(number: int, *, pictured: bool = True, named: str = "Leo Messi") -> AnsweredRow:
    """A row about the trade of a person, without a second fact."""
    trades = ("baker", "smith", "miller", "weaver")
    row = {
        "subject": f"Person {number}",
        "question": f"What is the trade of Person {number}?",
        "relation": "trade",
        "answer_true": trades[number % 4],
        "answer_new": trades[(number + 1) % 4],
        **(pictures("person", number) if pictured else {}),
    }
    answers = Answers(
        entity_type="person",
        paraphrase=f"What does Person {number} do for a living?",
        same_type_entity=named,
        same_type_answer="footballer",
    )
    return AnsweredRow(row=Row.model_validate(row), answers=answers)


def pictures(kind: str, number: int) -> dict[str, str]:
    return {
        "image": f"{kind}/{number}_seen.png", "image_rephrase": f"{kind}/{number}_unseen.png"
    }  # fmt: skip


def with_locality(one: AnsweredRow, image: str) -> AnsweredRow:
    """The row with questions that have nothing to do with it, so that its record is complete."""
    locality = {
        "locality_question": "Who led the Cuban revolt?", "locality_answer": "José Martí",
        "image_locality_question": "What falls in winter?", "image_locality_answer": "snow",
        "locality_image": image,
    }  # fmt: skip
    return one.model_copy(update={"row": one.row.model_copy(update=locality)})


def draw(answered: Iterable[AnsweredRow], folder: Path) -> Path:
    """Draws the pictures that rows name: a disc in a colour of each picture's own."""
    for name in sorted({name for one in answered for name in one.row.pictures}):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        colours = random.Random(name)
        image = Image.new("RGB", (SIDE, SIDE), "white")
        colour = tuple(colours.randrange(200) for _ in range(3))
        ImageDraw.Draw(image).ellipse((3, 3, SIDE - 4, SIDE - 4), fill=colour)
        image.save(path)
    return folder
