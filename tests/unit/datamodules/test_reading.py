"""What tells whether a picture is read, and how it stands beside a batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from datamodules.prompts import Prompt
from datamodules.reading import (
    NamingQuestion,
    ReadingQuestions,
    naming_counts,
    naming_question,
    reading_questions,
)
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS, TEXT_PROBES
from datamodules.sources.tmke import read_tmke
from errors import DataError
from models.rows import EditBatch, PictureQuestions
from tests.unit.datamodules.test_datamodule import (
    PICTURES,
    batches,
    make,
    misses,
    prompt_encoder,
    root,
    text_of,
)
from tests.unit.datamodules.test_sources import RECORD, other, write

__all__ = ["root"]
NAMING = "What is the car model in the image?"
HOP: dict[str, Any] = {"question": NAMING, "answer": "Holden Caprice", "image": "a_0.jpeg"}
IMAGE_PROBES = SCENARIOS["transitive"].probes
REPHRASED = "Who manufactures the car model in the image?"
EDITED = "Which company is the car model in the image produced by?"


def record(**changes: Any) -> Record:
    return Record.model_validate(RECORD | {"multimodal_hops": [HOP]} | changes)


def asked(of: Record) -> dict[str, ReadingQuestions]:
    prompts = {probe: make_prompt(of) for probe, make_prompt in IMAGE_PROBES.items()}
    return {probe: reading_questions(of, probe, p) for probe, p in prompts.items() if p}


def test_a_picture_is_read_where_its_subject_is_named_and_the_true_answer_given() -> None:
    questions = asked(record())
    seen, unseen = "a_0.jpeg", "a_1.jpeg"
    named = {probe: question.naming for probe, question in questions.items() if question.naming}
    assert named == {
        **{
            probe: Prompt(NAMING, "Holden Caprice", seen)
            for probe in ("reliability_s", "generality_s", "portability")
        },
        **{
            probe: Prompt(NAMING, "Holden Caprice", unseen)
            for probe in ("reliability_u", "generality_u")
        },
        "stability_same": Prompt(NAMING, "Ford Mustang", "b.jpeg"),
        "leak_same": Prompt(NAMING, "Ford Mustang", "b.jpeg"),
    }
    facts = {probe: question.fact for probe, question in questions.items() if question.fact}
    assert facts == {
        "reliability_s": Prompt(EDITED, "General Motors", seen),
        "reliability_u": Prompt(EDITED, "General Motors", unseen),
        "generality_s": Prompt(
            "Who manufactures the car model in the image?", "General Motors", seen
        ),
        "generality_u": Prompt(
            "Who manufactures the car model in the image?", "General Motors", unseen
        ),
        "portability": Prompt(
            "Who leads the maker of the car model in the image?", "Mary Barra", seen
        ),
        "locality_i_far": Prompt("What will happen?", "freeze", "d.jpg"),
        **{probe: Prompt(EDITED, "Ford", "b.jpeg") for probe in ("stability_same", "leak_same")},
        **{
            probe: Prompt(EDITED, "Sorry, there is no car model in the image", "c.jpeg")
            for probe in ("stability_diff", "leak_diff")
        },
    }
    prompts = {probe: make_prompt(record()) for probe, make_prompt in TEXT_PROBES.items()}
    in_text = [reading_questions(record(), probe, p) for probe, p in prompts.items() if p]
    assert len(in_text) == 8
    assert not any(question.naming or question.fact for question in in_text)


@pytest.mark.parametrize(
    "hops",
    [
        [],
        [HOP | {"image": None}],
        [HOP | {"answer": "General Motors"}],
        [HOP | {"answer": "Ford"}, HOP],
    ],
)
def test_without_a_question_of_its_own_the_type_makes_one(hops: list[dict[str, Any]]) -> None:
    of = record(multimodal_hops=hops, entity_type="old timer")
    built = "What is the old timer in the image?"
    assert naming_question(of) == NamingQuestion(built, True)
    questions = asked(of)
    assert questions["reliability_u"].naming == Prompt(built, "Holden Caprice", "a_1.jpeg")
    assert questions["leak_same"].naming == Prompt(built, "Ford Mustang", "b.jpeg")
    assert questions["reliability_s"].fact == Prompt(EDITED, "General Motors", "a_0.jpeg")


@pytest.mark.parametrize("gone", ["entity_type", "subject"])
def test_without_type_or_subject_nothing_is_named(gone: str) -> None:
    of = record(multimodal_hops=[]).model_copy(update={gone: None})
    assert naming_question(of) is None
    questions = asked(of)
    assert not any(question.naming for question in questions.values())
    assert questions["generality_s"].fact == Prompt(REPHRASED, "General Motors", "a_0.jpeg")


def test_naming_questions_are_counted_by_where_they_come_from() -> None:
    untyped = record(multimodal_hops=[]).model_copy(update={"entity_type": None})
    records = [record(), record(multimodal_hops=[]), untyped, record(multimodal_hops=[])]
    assert naming_counts(records) == {"given": 1, "built": 2, "none": 1}


def test_the_subject_may_be_spelled_otherwise_and_have_other_names() -> None:
    hop = HOP | {"answer": "HOLDEN  caprice", "answer_aliases": ["the Caprice"]}
    of = record(multimodal_hops=[hop])
    assert naming_question(of) == NamingQuestion(NAMING, False, ("the Caprice",))
    named = Prompt(NAMING, "Holden Caprice", "a_0.jpeg", aliases=("the Caprice",))
    assert asked(of)["portability"].naming == named


def served(root: Path, scenario: str, *records: dict[str, Any], **options: Any) -> list[EditBatch]:
    write(root / "t.json", *records)
    return batches(make(read_tmke(root, **options), scenario, knows=misses()))


def questions_of(batch: EditBatch) -> PictureQuestions:
    assert batch.pictures is not None
    return batch.pictures


def test_a_batch_asks_each_question_once_about_its_own_pictures(root: Path) -> None:
    hops = {"multimodal_hops": [HOP]}
    (batch,) = served(root, "transitive", RECORD | hops, other("Car A") | hops)
    questions, own = questions_of(batch), batch.rows
    assert questions.rows is not None
    assert questions.rows.pixel_values is None
    assert own.pixel_values is not None
    assert len(own.pixel_values) == len(PICTURES)
    texts = [text_of(own, row) for row in range(len(own))]
    texts += [text_of(questions.rows, row) for row in range(len(questions.rows))]
    pictures = [*own.image_index.tolist(), *questions.rows.image_index.tolist()]
    assert len(questions.keys) == len(questions.rows) == len(set(questions.keys))
    # Two names of each car, since the other one's hop leads elsewhere and its type makes a
    # question; both share the name of the same-type entity and all five facts.
    assert len(questions.rows) == 2 + 2 + 1 + 5
    for probe, rows in batch.probes.items():
        for place, row in enumerate(rows.tolist()):
            fact = questions.facts[probe][place]
            if probe.startswith("locality_t"):
                assert fact is None
                continue
            assert fact is not None
            assert pictures[fact] == pictures[row], "the same picture"
            assert texts[fact].split(" Short answer")[0] == texts[row].split(" Short answer")[0]
            is_own = probe.startswith(("locality", "stability"))
            assert (fact == row) if is_own else (fact >= len(own)) == (not probe.startswith("leak"))
            naming = questions.naming[probe][place]
            if naming is not None:
                assert texts[naming].startswith(f"</s>Question: {NAMING} Short answer:")
                assert pictures[naming] == pictures[row]
    assert questions.naming["locality_i_far"] == (None, None)


def test_nothing_is_asked_about_pictures_where_none_is_shown(root: Path) -> None:
    (batch,) = served(root, "unimodal", RECORD | {"multimodal_hops": [HOP]})
    assert batch.pictures is None


def test_a_naming_question_that_cannot_be_asked_names_its_record(root: Path) -> None:
    long = HOP | {"question": "What is it " * 100}
    write(root / "t.json", RECORD | {"multimodal_hops": [long]})
    encoder = prompt_encoder()
    encoder.max_positions = 200
    make(read_tmke(root), "unimodal", encoder).check()
    with pytest.raises(DataError, match=r"record 0 of .*\(subject 'Holden Caprice'\).*What is it"):
        make(read_tmke(root), "transitive", encoder).check()
