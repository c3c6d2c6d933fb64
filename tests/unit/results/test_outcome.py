"""The scores of an evaluation, gathered: each edit once, and of the first ones alone if asked."""

from __future__ import annotations

import pytest

from results.outcome import ScoredEdits
from results.partial import BatchResult

TOLD, LEAKED = ("reliability", "token_accuracy"), ("leak_same", "exact_match")


def batch(value: float, *edits: int) -> BatchResult:
    """All measures of the edits have one value, and their times are a tenth of it."""
    lines = [
        {
            "edit_id": edit, "probe": probe, "metric": measure, "value": value,
            "seconds": value / 10, "post_text": str(value),
        }
        for edit in edits
        for probe, measure in (TOLD, LEAKED)
    ]  # fmt: skip
    return BatchResult(edits, lines, value / 10, {"shown": [value] * len(edits)})


def scored(*batches: BatchResult) -> ScoredEdits:
    edits = ScoredEdits([TOLD, LEAKED])
    for one in batches:
        edits.add(one)
    return edits


def test_lines_have_the_values_of_their_scores_in_order() -> None:
    outcome = scored(batch(0.25, 2, 0), batch(0.5, 1)).outcome()
    assert [(line["edit_id"], line["probe"]) for line in outcome.lines] == [
        (edit, probe) for edit in (0, 1, 2) for probe in ("leak_same", "reliability")
    ]
    assert [line["value"] for line in outcome.lines] == [0.25, 0.25, 0.5, 0.5, 0.25, 0.25]
    values = {0: 0.25, 1: 0.5, 2: 0.25}
    assert outcome.scores == {TOLD: values, LEAKED: values}
    assert list(outcome.answer_seconds) == [0, 1, 2]


def test_what_came_first_counts() -> None:
    """A continued run, and a process with fewer edits than others, measure an edit again."""
    outcome = scored(batch(0.5, 0, 1), batch(1.0, 1, 2)).outcome()
    first = {0: 0.5, 1: 0.5, 2: 1.0}
    assert outcome.scores == {TOLD: first, LEAKED: first}
    assert len(outcome.lines) == 6
    for line in outcome.lines:
        value = first[line["edit_id"]]
        assert (line["value"], line["post_text"]) == (value, str(value))
    assert outcome.seconds == outcome.answer_seconds == {0: 0.05, 1: 0.05, 2: 0.1}
    assert outcome.report == {"shown": pytest.approx(2 / 3)}


@pytest.mark.parametrize("n", [1, 2, 3])
def test_of_the_first_edits_alone(n: int) -> None:
    """Every measure ends at the same edit, which may stand within a batch."""
    values = {0: 0.5, 1: 0.5, 2: 1.0}
    first = {edit: value for edit, value in values.items() if edit < n}
    outcome = scored(batch(0.5, 0, 1), batch(1.0, 2)).outcome(n)
    assert outcome.scores == {TOLD: first, LEAKED: first}
    assert {line["edit_id"] for line in outcome.lines} == set(first)
    assert set(outcome.seconds) == set(outcome.answer_seconds) == set(first)
    assert outcome.report == {"shown": pytest.approx(sum(first.values()) / n)}


def test_a_column_without_scores_is_no_column() -> None:
    assert scored(batch(0.5, 3)).outcome(2).scores == {}


def test_portability_is_split_where_edits_differ_in_hops() -> None:
    column = ("portability", "token_accuracy")
    edits = ScoredEdits([column])
    edits.add(BatchResult((0, 1), [
        {"edit_id": edit, "probe": "portability", "metric": "token_accuracy", "value": edit / 2,
         "seconds": 0.0}
        for edit in (0, 1)
    ]))  # fmt: skip
    outcome = edits.outcome()
    assert outcome.with_hops({0: 2, 1: 3}) == {
        column: {0: 0.0, 1: 0.5},
        ("portability_2hop", "token_accuracy"): {0: 0.0},
        ("portability_3hop", "token_accuracy"): {1: 0.5},
    }
    assert outcome.with_hops({0: 2, 1: 2}) == outcome.scores
