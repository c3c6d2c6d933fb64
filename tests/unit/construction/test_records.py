"""Rows and answers become records: what is asked, of whom, and what is lacking."""

from __future__ import annotations

from collections import Counter

import pytest

from construction.answers import AnsweredRow
from construction.pairing import Pairing
from construction.records import Constructed, construct_records, count_lacks
from datamodules.prompts import Prompt
from datamodules.scenarios import IMAGE_PROBES, TEXT_PROBES
from tests.answered_rows import book, person, with_locality

NO_BOOK = "Sorry, there is no book in the image"
LEAK = "of the entity that was named, the new answer is true: a leak would look like it"
NO_PICTURE = "there is no picture of the entity that was named"


def first(*answered: AnsweredRow, **options: object) -> Constructed:
    return construct_records(answered, **options)[0]  # type: ignore[arg-type]


def test_every_question_is_asked_in_text_and_about_a_picture() -> None:
    record = first(book(1, named="Book 3"), book(3), person(1)).record
    text = {name: prompt for name, make in TEXT_PROBES.items() if (prompt := make(record))}
    assert {name: (prompt.question, prompt.answer) for name, prompt in text.items()} == {
        "reliability": ("Who is the author of Book 1?", "Writer 2"),
        "generality": ("Who wrote Book 1?", "Writer 2"),
        "portability": ("Where was the author of Book 1 born?", "Town 2"),
        "stability_same": ("Who is the author of Book 3?", "Writer 3"),
        "stability_diff": ("Who is the author of Person 1?", NO_BOOK),
        "leak_same": ("Who is the author of Book 3?", "Writer 2"),
        "leak_diff": ("Who is the author of Person 1?", "Writer 2"),
    }  # fmt: skip
    shown = {name: make(record) for name, make in IMAGE_PROBES.items()}
    author = "Who is the author of the book in the image?"
    seen, unseen = record.image, record.image_rephrase
    assert shown["reliability_s"] == Prompt(author, "Writer 2", seen)
    assert shown["reliability_u"] == Prompt(author, "Writer 2", unseen)
    assert shown["generality_u"] == Prompt("Who wrote the book in the image?", "Writer 2", unseen)
    assert shown["portability"] == Prompt(
        "Where was the author of the book in the image born?", "Town 2", seen
    )
    assert shown["stability_diff"] == Prompt(author, NO_BOOK, "person/1_seen.png")


def test_the_chain_goes_through_the_new_answer_and_the_true_one() -> None:
    record = first(book(1)).record
    assert [(hop.question, hop.answer) for hop in record.new_single_hops] == [
        ("Who is the author of Book 1?", "Writer 2"),
        ("Where was Writer 2 born?", "Town 2"),
    ]
    assert [(hop.question, hop.answer) for hop in record.single_hops] == [
        ("Who is the author of Book 1?", "Writer 1"),
        ("Where was Writer 1 born?", "Town 1"),
    ]
    assert [(hop.answer, hop.image) for hop in record.multimodal_hops] == [
        ("Book 1", "book/1_seen.png"),
        ("Writer 1", None),
    ]
    assert record.hops == 1


def test_the_entity_that_was_named_is_asked_with_what_the_table_says_of_it() -> None:
    one = first(book(1, named="book 3"), book(3), book(4))
    probe = one.record.same_type_entity_question
    assert probe is not None
    assert (probe.same_type_entity, probe.answer) == ("book 3", "Writer 3")
    assert one.record.same_entity_image == "book/3_seen.png"
    assert "same_type_entity_question" not in one.record.drawn
    assert one.lent["same_type_entity_question"] == book(3).row.id


def test_a_row_of_another_type_is_not_the_entity_that_was_named() -> None:
    one = first(book(1, named="Person 1"), person(1), stand_ins=False)
    assert one.record.same_entity_image is None
    assert one.lacks["same_entity_image"] == NO_PICTURE


def test_a_row_stands_in_for_an_entity_without_a_picture_and_says_so() -> None:
    answered = book(1), book(2), book(3), *(book(n, pictured=False) for n in range(4, 12))
    one = first(*answered)
    probe = one.record.same_type_entity_question
    assert probe is not None
    assert (probe.same_type_entity, probe.answer) == ("Book 3", "Writer 3"), "of 2 the new is true"
    assert one.record.same_entity_image == "book/3_seen.png"
    assert "same_type_entity_question" in one.record.drawn
    without = first(*answered, stand_ins=False)
    probe = without.record.same_type_entity_question
    assert probe is not None
    assert (probe.same_type_entity, probe.answer) == ("Emma", "Jane Austen")
    assert (probe.question, probe.image_question) == ("Who is the author of Emma?", None)
    assert without.lacks["same_entity_image"] == NO_PICTURE


def test_a_type_is_one_however_it_is_spelled() -> None:
    other = book(3)
    answers = other.answers.model_copy(update={"entity_type": "Book"})
    one = first(book(1), other.model_copy(update={"answers": answers}))
    assert one.record.same_entity_image == "book/3_seen.png"
    assert one.record.diff_type_entity_question is None


def test_a_picture_of_the_named_entity_may_be_given() -> None:
    one = first(book(1), book(3), pictures={"EMMA": "emma.png"})
    assert one.record.same_entity_image == "emma.png"
    assert "same_type_entity_question" not in one.record.drawn


def test_what_an_edit_teaches_is_no_stability() -> None:
    one = first(book(1, answer_new="Jane Austen", hop_question="Is Jane Austen old?"))
    assert one.record.same_type_entity_question is None
    assert one.lacks["same_type_entity_question"] == LEAK


@pytest.mark.parametrize(
    ("one", "other", "kin"),
    [
        ("book", "Book", True), ("novel", "crime novel", True), ("book/play", "comic book", True),
        ("film or series", "television series", True), ("novel", "book", True),
        ("book", "person", False), ("book", "bookshop", False), ("car model", "model", True),
    ],
)  # fmt: skip
def test_types_are_kin_by_name_or_by_the_users_word(one: str, other: str, kin: bool) -> None:
    pairing = Pairing([], [], 0, {}, [["Novel", "book"]])
    assert pairing.are_kin(one, other) is pairing.are_kin(other, one) is kin


def test_kin_are_never_shown_as_what_is_not_there() -> None:
    assert first(book(1), person(1)).record.diff_entity_image == "person/1_seen.png"
    one = first(book(1), person(1), kin=[["book", "person"]])
    assert one.record.diff_type_entity_question is None
    assert "diff_type_entity_question" in one.lacks


def test_a_complete_record_lacks_nothing() -> None:
    answered = [with_locality(row, "snow.png") for row in (book(1), book(3), person(1), person(3))]
    constructed = construct_records(answered)
    assert [(one.is_complete, dict(one.lacks)) for one in constructed[:2]] == [(True, {})] * 2
    assert [one.is_complete for one in constructed[2:]] == [False, False], "no second fact"
    assert count_lacks(constructed) == Counter(
        {("one_hop_question", "the row has no second fact"): 2}
    )


def test_what_is_lacking_is_said() -> None:
    one = first(book(1, pictured=False, hop_answer_true=None))
    assert not one.is_complete
    assert dict(one.lacks) == {
        "image": "the row names no picture",
        "image_rephrase": "the row names no other picture",
        "locality_question": "the row has none",
        "image_locality_question": "the row has none",
        "one_hop_question.answer_true": "the row has no hop_answer_true",
        "same_entity_image": NO_PICTURE,
        "diff_type_entity_question": (
            "no row with a picture is of another type that shares no question"
        ),
    }


def test_the_same_rows_give_the_same_records_in_any_order() -> None:
    answered = [book(n) for n in range(6)] + [person(n) for n in range(6)]
    records = construct_records(answered, seed=3)
    again = construct_records(answered[::-1], seed=3)
    assert [one.record for one in again[::-1]] == [one.record for one in records]
    other = construct_records(answered, seed=4)
    assert [one.record for one in other] != [one.record for one in records]
