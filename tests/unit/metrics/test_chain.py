"""Where the chain from an edit to a picture breaks, on rows made by hand."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.chain import (
    BY_CHANCE,
    CARRIED,
    CLASSES,
    NOT_CARRIED,
    NOT_RECOGNISED,
    Link,
    class_indicators,
    links,
)

PROBE = "reliability_u"
Flags = list[float | None]


def scores(
    given: Flags, named: Flags, before: Flags, another: Flags
) -> dict[tuple[str, str], dict[int, float]]:
    """Edits 10, 11, ...; None: the record lacks it."""
    columns = {
        (PROBE, "exact_match"): given,
        (PROBE, "exact_match_before"): before,
        (PROBE, "named_before"): named,
        ("leak_same", "exact_match"): another,
    }
    return {
        key: {10 + number: value for number, value in enumerate(values) if value is not None}
        for key, values in columns.items()
    }


@pytest.mark.parametrize(
    ("named", "answer", "before", "another", "kind"),
    [
        (1, 1, 0, 0, CARRIED),
        (1, 1, 0, None, CARRIED),
        (1, 1, 1, 0, BY_CHANCE),
        (1, 1, 0, 1, BY_CHANCE),
        (0, 1, 0, 0, BY_CHANCE),
        (0, 1, 1, 1, BY_CHANCE),
        (1, 0, 0, 0, NOT_CARRIED),
        (1, 0, 1, 0, NOT_CARRIED),  # it was right before the edit, which lost it
        (1, 0, 0, 1, NOT_CARRIED),
        (0, 0, 0, 0, NOT_RECOGNISED),
        (0, 0, 1, 1, NOT_RECOGNISED),
        (None, 1, 0, 0, None),
        (None, 0, 0, 0, None),
    ],
)
def test_every_row_has_the_class_of_its_definition(
    named: float | None, answer: float, before: float, another: float | None, kind: str | None
) -> None:
    (link,) = links(scores([answer], [named], [before], [another]), PROBE).values()
    assert link.kind == kind


def test_a_model_that_recognises_nothing_has_all_its_failures_in_not_recognised() -> None:
    given_answers: Flags = [0, 1, 0, 0, 1, 0]
    of_records = links(scores(given_answers, [0] * 6, [0] * 6, [0] * 6), PROBE)
    failures = {edit for edit, link in of_records.items() if not link.given}
    shares = class_indicators(of_records)
    assert {edit for edit, is_so in shares[NOT_RECOGNISED].items() if is_so} == failures
    assert sum(shares[BY_CHANCE].values()) == 2, "its successes have not come by the chain"
    assert not sum(shares[CARRIED].values()) + sum(shares[NOT_CARRIED].values())


def test_an_editor_that_answers_everybody_alike_carries_nothing() -> None:
    of_records = links(scores([1] * 4, [1, 1, 0, None], [0] * 4, [1] * 4), PROBE)
    assert class_indicators(of_records)[BY_CHANCE] == {10: 1.0, 11: 1.0, 12: 1.0}


def test_what_was_named_may_be_told_otherwise() -> None:
    rows = scores([1, 0], [0, 0], [0, 0], [0, 0])
    of_records = links(rows, PROBE, named={10: 1.0, 11: 1.0})
    assert [link.kind for link in of_records.values()] == [CARRIED, NOT_CARRIED]
    assert [link.kind for link in links(rows, PROBE, named={10: 1.0}).values()] == [CARRIED, None]


def test_records_that_do_not_ask_are_not_there() -> None:
    rows = scores([None, 1, 0], [1, 1, 1], [0, 0, 0], [0, 0, 0])
    assert list(links(rows, PROBE)) == [11, 12]
    assert links({}, PROBE) == {}
    assert class_indicators({}) == {name: {} for name in CLASSES}


@given(
    st.lists(
        st.builds(
            Link,
            named=st.sampled_from([None, False, True]),
            given=st.booleans(),
            given_before=st.booleans(),
            given_of_another=st.sampled_from([None, False, True]),
        ),
        max_size=20,
    )
)
def test_classes_part_the_records_that_have_a_naming_question(of_records: list[Link]) -> None:
    shares = class_indicators(dict(enumerate(of_records)))
    told = [number for number, link in enumerate(of_records) if link.named is not None]
    for name in CLASSES:
        assert list(shares[name]) == told
    assert all(sum(shares[name][number] for name in CLASSES) == 1 for number in told)


def test_the_classes_are_all_reached() -> None:
    every = (Link(*flags) for flags in product([False, True], repeat=4))
    assert {link.kind for link in every} == set(CLASSES)
