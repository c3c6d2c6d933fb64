"""Questions about a picture, made of text questions."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from construction.wording import about_picture
from datamodules.mentions import in_the_image


@pytest.mark.parametrize(
    ("question", "subject", "entity_type", "asked"),
    [
        ("Who is the author of Middlemarch?", "Middlemarch", "book",
         "Who is the author of the book in the image?"),
        ("What is George Rankin's occupation?", "George Rankin", "person",
         "What is the person in the image's occupation?"),
        ("Who founded the Victoria Cross?", "Victoria Cross", "award",
         "Who founded the award in the image?"),
        ("Who wrote The Snow Queen?", "The Snow Queen", "book",
         "Who wrote the book in the image?"),
        ('Who wrote the "Surrealist Manifesto"?', "Surrealist Manifesto", "document",
         "Who wrote the document in the image?"),
        ("Middlemarch was written by whom?", "Middlemarch", "book",
         "The book in the image was written by whom?"),
        ("Think of it. Middlemarch is by whom?", "Middlemarch", "book",
         "Think of it. The book in the image is by whom?"),
        ("Is ann older than Anna? Ann is how old?", "Ann", "person",
         "Is ann older than Anna? The person in the image is how old?"),
        ("Ann and Ann: who is who?", "Ann", "person",
         "The person in the image and the person in the image: who is who?"),
        ("So 'Ann's father' is who?", "Ann", "person",
         "So 'the person in the image's father' is who?"),
        ("Do you see Bathea Ann?", "Ann", "person", "Do you see Bathea the person in the image?"),
    ],
)  # fmt: skip
def test_the_subject_gives_way(question: str, subject: str, entity_type: str, asked: str) -> None:
    assert about_picture(question, subject, entity_type) == asked


def test_a_question_that_does_not_name_its_subject_shows_no_picture() -> None:
    assert about_picture("Who is the author of Annabel?", "Ann", "person") is None


@given(
    before=st.text("abc x", max_size=12), after=st.text("abc ?", max_size=12),
    subject=st.text("KLMé", min_size=1, max_size=8),
    entity_type=st.sampled_from(["book", "car model"]),
)  # fmt: skip
def test_whatever_stands_around_it_stays(
    before: str, after: str, subject: str, entity_type: str
) -> None:
    """But for an article; the words of the question are lower case, those of the subject upper."""
    asked = about_picture(f"{before} {subject} {after}", subject, entity_type)
    assert asked is not None
    assert subject not in asked
    assert in_the_image(entity_type) in asked.lower()
    assert asked.endswith(f" {after}")
