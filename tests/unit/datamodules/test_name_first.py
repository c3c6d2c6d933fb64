"""How probes of a picture are asked by a name, on records made by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from datamodules.asked import all_prompts
from datamodules.name_first import NameFirst, name_first, named_in, shown_type
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS, TEXT_PROBES
from tests.unit.datamodules.test_sources import RECORD

PROBES = SCENARIOS["transitive"].probes
NAMING = "What is the car model in the image?"
EXTRA: list[dict[str, Any]] = [
    {
        "kind": "near",
        "question": "Which company is Fiat Uno produced by?",
        "image_question": "Which company is the car model in the image produced by?",
        "answer": "Fiat",
        "image": "e.jpg",
    },
    {
        "kind": "subject",
        "question": "Where was the Holden Caprice built?",
        "image_question": "Where was the car model in the image built?",
        "answer": "Elizabeth",
        "image": "f.jpg",
    },
]


def record(**changes: Any) -> Record:
    return Record.model_validate(RECORD | {"extra_locality": EXTRA} | changes)


def ways(of: Record) -> dict[str, NameFirst]:
    prompts = {probe: make_prompt(of) for probe, make_prompt in PROBES.items()}
    found = {probe: name_first(of, probe, p) for probe, p in prompts.items() if p}
    return {probe: way for probe, way in found.items() if way is not None}


def test_the_true_name_gives_the_record_s_own_text_question() -> None:
    found = ways(record())
    asked = {probe: way.question(way.naming.answer) for probe, way in found.items()}
    edit = "Which company is Holden Caprice produced by?"
    rephrased = "Who manufactures the Holden Caprice?"
    same, diff = (f"Which company is {name} produced by?" for name in ("Ford Mustang", "Everest"))
    assert asked == {
        "reliability_s": edit,
        "reliability_u": edit,
        "generality_s": rephrased,
        "generality_u": rephrased,
        "portability": "Who leads the maker of Holden Caprice?",
        "locality_i_near": "Which company is Fiat Uno produced by?",
        "locality_i_subject": "Where was the Holden Caprice built?",
        "stability_same": same,
        "leak_same": same,
        "stability_diff": diff,
        "leak_diff": diff,
    }
    assert {probe: (way.naming.answer, way.naming.image) for probe, way in found.items()} == {
        **{probe: ("Holden Caprice", "a_0.jpeg") for probe in asked if probe.endswith("_s")},
        **{probe: ("Holden Caprice", "a_1.jpeg") for probe in asked if probe.endswith("_u")},
        "portability": ("Holden Caprice", "a_0.jpeg"),
        "locality_i_near": ("Fiat Uno", "e.jpg"),
        "locality_i_subject": ("Holden Caprice", "f.jpg"),
        **dict.fromkeys(("stability_same", "leak_same"), ("Ford Mustang", "b.jpeg")),
        **dict.fromkeys(("stability_diff", "leak_diff"), ("Everest", "c.jpeg")),
    }
    assert {way.naming.question for way in found.values()} == {NAMING}
    assert ways(record())["reliability_s"].question("a Ford") == (
        "Which company is a Ford produced by?"
    )


def test_a_picture_of_another_type_is_asked_for_its_own() -> None:
    hop = {"question": "What is the name of the car model in the image?", "image": "a_0.jpeg"}
    diff = RECORD["diff_type_entity_question"] | {
        "image_question": "Which company is the tall mountain in the image produced by?"
    }
    hops = [hop | {"answer": "Holden Caprice", "answer_aliases": ["Caprice"]}]
    found = ways(record(diff_type_entity_question=diff, multimodal_hops=hops))
    assert found["stability_diff"].naming.question == (
        "What is the name of the tall mountain in the image?"
    )
    assert found["leak_same"].naming.question == hop["question"]
    assert found["reliability_u"].naming.aliases == ("Caprice",)
    assert found["leak_same"].naming.aliases == (), "which are the subject's"
    untold = diff | {"image_question": "Which company makes this?"}
    assert not {"stability_diff", "leak_diff"} & set(ways(record(diff_type_entity_question=untold)))


@pytest.mark.parametrize(
    ("changes", "gone"),
    [
        ({"subject": "Caprice PPV"}, {"reliability_s", "generality_u", "stability_same"}),
        ({"one_hop_question": None}, {"portability"}),
        ({"extra_locality": []}, {"locality_i_near", "locality_i_subject"}),
        (
            {"extra_locality": [EXTRA[0] | {"question": "Who makes Fiat Uno?"}]},
            {"locality_i_near"},
        ),
        ({"entity_type": None, "multimodal_hops": []}, set(PROBES)),
    ],
)
def test_what_cannot_be_asked_by_a_name_is_not(changes: dict[str, Any], gone: set[str]) -> None:
    of = record()
    values = {name: changes.get(name, getattr(of, name)) for name in type(of).model_fields}
    if "extra_locality" in changes:
        values["extra_locality"] = record(**changes).extra_locality
    assert not gone & set(ways(Record.model_construct(**values)))


def test_probes_in_text_are_not_asked_by_a_name() -> None:
    of = record()
    prompts = {probe: make_prompt(of) for probe, make_prompt in TEXT_PROBES.items()}
    assert not any(name_first(of, probe, p) for probe, p in prompts.items() if p)


def test_naming_questions_are_checked_with_all_others() -> None:

    scenario = SCENARIOS["transitive"]
    plain = all_prompts(scenario, record(), filter_known="none", reads=False)
    named = replace(scenario, names_first=True)
    more = all_prompts(named, record(), filter_known="none", reads=False)
    assert more[: len(plain)] == plain
    assert {(p.question, p.answer) for p in more[len(plain) :]} == {
        (NAMING, name) for name in ("Holden Caprice", "Fiat Uno", "Ford Mustang", "Everest")
    }
    assert len(set(more)) == len(more) + len(set(plain)) - len(plain), "each once"


@pytest.mark.parametrize(
    ("question", "shown"),
    [
        ("Who wrote the book/play in the image?", "book/play"),
        ("Who manufactures the the car model in the image?", "car model"),
        ("What does the company in the picture make?", "company"),
        ("Who is in the image?", None),
    ],
)
def test_the_type_that_a_question_shows(question: str, shown: str | None) -> None:
    assert shown_type(question) == shown


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("Middlemarch", "Who wrote Middlemarch, or part of Middlemarch?"),
        ("  The  Book.\n", "Who wrote The Book, or part of The Book?"),
        (" . ", "Who wrote it, or part of it?"),
        ("", "Who wrote it, or part of it?"),
        ("St. Ives", "Who wrote St. Ives, or part of St. Ives?"),
    ],
)
def test_words_stand_wherever_the_name_did(words: str, asked: str) -> None:
    assert named_in(("Who wrote ", ", or part of ", "?"), words) == asked
