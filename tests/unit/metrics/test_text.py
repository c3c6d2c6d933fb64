"""Generated answers compared as text, and metrics split or chosen by the settings of a run."""

from __future__ import annotations

import re
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metrics.headlines import (
    GENERATION_MATCH,
    HEADLINES,
    headlines_of,
    hop_parts,
    variant_of,
)
from metrics.text import generation_match, normalised


@pytest.mark.parametrize(
    ("generated", "target", "expected"),
    [
        (" George Eliot", "George Eliot", 1),
        ("the george eliot.", "George Eliot", 1),
        ("George Eliot\nQuestion: who", "George Eliot", 1),
        ("\nGeorge Eliot", "George Eliot", 0),  # it ended before it said anything
        ("George Eliot and others", "George Eliot", 0),
        ("George", "George Eliot", 0),
        ("", "George Eliot", 0),
        ("A", "A", 1),  # an answer that is nothing but an article
        ("the", "A", 0),
        ("!", "?", 0),
        ("Łódź", "łódź", 1),
        # numbers
        ("10.5", "105", 0),
        ("105", "10.5", 0),
        ("10.5.", "10.5", 1),
        ("-5", "5", 0),
        ("\u22125", "-5", 1),  # the minus sign
        ("+5", "5", 1),
        ("-$5", "$5", 0),
        ("-\u20ac5", "\u20ac5", 0),
        ("3/4", "34", 0),
        ("1:30", "130", 0),
        ("1914-1918", "1914\u20131918", 1),
        ("1914-1918", "19141918", 0),
        ("1,000", "1000", 1),
        ("1'000'000", "1,000,000", 1),
        ("1,000.50", "1000.50", 1),
        ("1,5", "15", 0),
        ("1.000", "1000", 0),
        (".5", "5", 0),
        ("1e-5", "1e5", 0),
        ("10\u00b2", "102", 0),
        ("1, 2 and 3.", "1 2 and 3", 1),
        ("COVID-19", "covid19", 1),
        # spellings
        ("S\u00e3o Paulo", "Sa\u0303o Paulo", 1),
        ("d\u2019Arc", "d'Arc", 1),
        ("\u201cHeroes\u201d", '"Heroes"', 1),
        ("Jean\u2013Luc", "Jean-Luc", 1),
        ("\uff34\uff2f\uff2b\uff39\uff2f", "Tokyo", 1),
        ("Sao Paulo", "S\u00e3o Paulo", 0),
        # lines
        ("Roses are red\nViolets are blue", "Roses are red\nViolets are blue", 1),
        ("Roses are red\r\nviolets are blue.\nQuestion", "Roses are red\nViolets are blue", 1),
        ("Roses are red", "Roses are red\nViolets are blue", 0),
        ("Roses are red\nViolets", "Roses are red", 1),
    ],
)
def test_a_match_is_one_of_the_whole_answer(generated: str, target: str, expected: int) -> None:
    assert generation_match(generated, target) == expected


@pytest.mark.parametrize("word", ["George-Eliot", "U.S.A.", "C++", "the a", "$5", "50%", "#1!"])
def test_words_are_compared_as_squad_compares_them(word: str) -> None:
    plain = word.lower().translate(str.maketrans("", "", string.punctuation))
    without_articles = re.sub(r"\b(a|an|the)\b", " ", plain)
    assert normalised(word) == (" ".join(without_articles.split()) or word.lower())


@given(
    st.text(alphabet="12050,.'-/ ae\"E\u00b2\u00bd\u2013\u2019%+:\u0301\u0130\n_\ufb01", max_size=9)
)
@settings(max_examples=200, deadline=None)
def test_normalising_anything_twice_changes_nothing(answer: str) -> None:
    assert normalised(normalised(answer)) == normalised(answer)


def test_normalising_twice_changes_nothing() -> None:
    for answer in ("The  Beatles.", "a an the", "U.S.A.", "..."):
        assert normalised(normalised(answer)) == normalised(answer)


def test_the_published_locality_is_chosen_by_the_settings() -> None:
    published = {"locality_i": "top10_rank", "positions": "all", "generation": False}
    chosen = {
        line.name: line.measure for line in headlines_of("transitive", **variant_of(published))
    }
    assert chosen["Locality_T"] == "token_agreement_everywhere"
    assert chosen["Locality_I"] == "token_agreement_positional_everywhere"
    assert chosen["Locality_I_near"] == "token_agreement_positional_everywhere"
    assert chosen["Reliability_S"] == "token_accuracy"
    assert headlines_of("transitive", **variant_of({})) == HEADLINES["transitive"]


def test_generation_adds_a_twin_to_every_accuracy() -> None:
    lines = headlines_of("unimodal", generation=True)
    names = [line.name for line in lines]
    for name in ("Reliability", "Generality", "Portability", "Stability", "Leak", "Specificity"):
        assert names.index(f"{name}_GM") == names.index(f"{name}_EM") + 1
    assert all(line.measure == GENERATION_MATCH for line in lines if line.name.endswith("_GM"))
    assert next(line for line in lines if line.name == "Specificity_GM").minus == ("leak_same",)
    assert not any(name.startswith("Locality") for name in names if name.endswith("_GM"))


def test_hops_split_portability_only_where_they_differ() -> None:
    scores = {
        ("portability", "token_accuracy"): {0: 1.0, 1: 0.0, 2: 0.5},
        ("portability", "exact_match"): {0: 1.0, 1: 0.0, 2: 0.0},
        ("reliability", "token_accuracy"): {0: 1.0, 1: 1.0, 2: 1.0},
    }
    assert hop_parts(scores, {0: 1, 1: 1, 2: 1}) == {}
    found = hop_parts(scores, {0: 1, 1: 3, 2: 1})
    assert found["portability_1hop", "token_accuracy"] == {0: 1.0, 2: 0.5}
    assert found["portability_3hop", "exact_match"] == {1: 0.0}
    assert {probe for probe, _ in found} == {"portability_1hop", "portability_3hop"}
