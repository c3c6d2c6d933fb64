"""Generated answers compared as text, and metrics split or chosen by the settings of a run."""

from __future__ import annotations

import pytest

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
    ],
)
def test_a_match_is_one_of_the_whole_answer(generated: str, target: str, expected: int) -> None:
    assert generation_match(generated, target) == expected


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
    for name in ("Reliability", "Generality", "Portability", "Stability", "Leak"):
        assert names.index(f"{name}_GM") == names.index(f"{name}_EM") + 1
    assert all(line.measure == GENERATION_MATCH for line in lines if line.name.endswith("_GM"))
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
