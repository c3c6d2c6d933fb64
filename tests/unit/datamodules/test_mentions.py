"""A subject is found in the question, whole words first, and replaced nowhere else."""

from __future__ import annotations

import itertools

import pytest

from datamodules.mentions import mentions
from datamodules.prompt_encoder import PromptForm, locate_phrase
from datamodules.records import Record
from editors.rome.prompts import lookup
from errors import DataError
from tests.ike_cases import record
from tests.real_tokenizers import FORMS, Family, real_encoder

JAMO = "\u1112\u1161\u11ab\u1100\u116e\u11a8"  # two syllables, decomposed


def named(text: str, phrase: str, *, inside_words: bool = False) -> list[str]:
    return [text[a:b] for a, b in mentions(text, phrase, inside_words=inside_words)]


@pytest.mark.parametrize(
    ("text", "phrase", "found"),
    [
        ("Who is Ann of Anna?", "Ann", ["Ann"]),
        ("Is Ann ann?", "Ann", ["Ann"]),  # as it is written comes first
        ("Is ANN ann?", "Ann", ["ANN", "ann"]),
        ("Where is Paris, and who likes Paris?", "Paris", ["Paris", "Paris"]),
        ("Who made Apollo 11?", "Apollo 1", []),
        ("Who knows Annabel?", "Ann", []),
        ("Who knows _Ann_?", "Ann", []),
        ("Who knows Ann's car?", "Ann", ["Ann"]),
        ("Who likes General\u00a0Motors?", "General  Motors", ["General\u00a0Motors"]),
        ("Where is Cafe\u0301 Noir?", "Caf\u00e9 Noir", ["Cafe\u0301 Noir"]),
        ("Where is Caf\u00e9 Noir?", "Cafe\u0301 Noir", ["Caf\u00e9 Noir"]),
        ("Where is Cafe\u0301?", "Cafe", []),  # another word, whose accent stands by itself
        (f"Where is {JAMO}?", "\ud55c\uad6d", [JAMO]),
        ("İİ: where is Paris?", "paris", ["Paris"]),  # letters that grow in lower case
        ("東京はどこですか", "東京", ["東京"]),
        ("서울은 어디?", "서울", ["서울"]),
        ("Is C++ (2a) old?", "C++ (2a)", ["C++ (2a)"]),
        ("x", "  ", []),
    ],
)  # fmt: skip
def test_mentions_as_whole_words(text: str, phrase: str, found: list[str]) -> None:
    assert named(text, phrase) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Is Anna ann or Ann?", "Ann"),  # whole, as written
        ("Is Anna ann?", "ann"),  # whole, in another case
        ("Is anna Anna?", "Ann"),  # a part, as written
        ("Is anna old?", "ann"),  # a part, in another case
    ],
)
def test_a_lookup_takes_parts_of_words_last(text: str, found: str) -> None:
    assert named(text, "Ann", inside_words=True)[0] == found


def test_a_mention_ends_before_an_accent_that_joins_no_letter_and_not_before_that_letter() -> None:
    text = "Is Apollo 1\u0302 of Cafe\u0301?"
    assert named(text, "Apollo 1", inside_words=True) == ["Apollo 1"]


def record_about(subject: str, question: str) -> Record:
    of = record(0).model_dump()
    of["subject"] = subject
    of["knowledge_edit"]["question"] = question
    of["same_type_entity_question"] |= {"same_type_entity": "Lisburg", "question": None}
    return Record.model_validate(of)


@pytest.mark.parametrize(
    ("subject", "question", "derived"),
    [
        ("Ann", "Is Anna older than Ann?", "Is Anna older than Lisburg?"),
        ("Ann", "Did Ann like ANN?", "Did Lisburg like ANN?"),
        ("Ann", "Did Ann like Ann?", "Did Lisburg like Lisburg?"),
        ("paris", "İİ: where is Paris?", "İİ: where is Lisburg?"),
    ],
)
def test_a_same_type_question_replaces_whole_words(
    subject: str, question: str, derived: str
) -> None:
    made = record_about(subject, question)
    assert made.text_question_about(made.same_type_entity_question) == derived


@pytest.mark.parametrize(
    ("subject", "how"), [("Ann", "only as a part of a longer word"), ("Tama", "not at all")]
)
def test_a_subject_inside_a_longer_word_is_replaced_nowhere(subject: str, how: str) -> None:
    made = record_about(subject, "Where does Annabel live?")
    with pytest.raises(DataError, match=how) as caught:
        made.text_question_about(made.same_type_entity_question)
    assert "Add the field `question`" in str(caught.value)


@pytest.mark.parametrize("family", ["llava", "blip2", "minigpt4"])
@pytest.mark.parametrize("form", FORMS)
def test_a_subject_that_is_a_word_of_the_template_is_found_in_the_question(
    family: Family, form: PromptForm
) -> None:
    enc = real_encoder(family, form)
    for subject in ("Question", "answer", "USER", "Assistant", "Human", "Fact"):
        before = f"New Fact: {subject} {subject}\n"
        for picture, word in itertools.product((False, True), (subject, subject.lower())):
            text = f"Who wrote the {word}?"
            row = enc.encode(text, subject, picture=picture, before=before)
            begin = row.text.index(text) + text.index(word)
            first, last = locate_phrase(row, subject)
            assert row.offsets[first][0] in (begin - 1, begin)
            assert row.offsets[last][1] == begin + len(subject)
            assert lookup(row, subject, "subject_last") == last
        with pytest.raises(DataError, match="does not occur in the question 'Who wrote it"):
            locate_phrase(enc.encode("Who wrote it?", subject, before=before), subject)
