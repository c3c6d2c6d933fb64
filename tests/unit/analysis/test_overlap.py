"""Overlaps of sets, and the levels of chance, against counting by hand."""

from __future__ import annotations

import doctest
import itertools

import numpy as np
import pytest

from analysis import overlap
from analysis.overlap import Ids, expected_jaccard, overlaps, unrelated_mean


def ids(*numbers: int) -> Ids:
    return np.array(numbers, dtype=np.int64)


def test_examples() -> None:
    found = doctest.testmod(overlap)
    assert found.attempted > 0
    assert found.failed == 0


def test_values_of_each_record_and_of_unrelated_ones() -> None:
    a = [ids(0, 1, 2, 3), ids(8, 9), ids(5)]
    b = [ids(2, 3, 4), ids(8, 9), ids(1, 3)]
    found = overlaps(a, b, subjects=["x", "y", "x"], n=10)
    assert found.jaccard.tolist() == [2 / 5, 1.0, 0.0]
    assert found.share.tolist() == [0.5, 1.0, 0.0]
    assert found.chance_share.tolist() == [0.3, 0.2, 0.2]
    # the first and the third record are about one subject, so each meets the second alone
    assert found.unrelated_jaccard.tolist() == [0.0, 0.0, 0.0]
    other = overlaps(a, b, subjects=["x", "y", "z"], n=10)
    assert other.unrelated_jaccard.tolist() == pytest.approx([(0 + 2 / 4) / 2, 0.0, 0.0])
    assert other.unrelated_share.tolist() == pytest.approx([(0 + 2 / 4) / 2, 0.0, 0.0])


def test_what_has_no_value_is_none_and_never_zero() -> None:
    a = [None, ids(), ids(), ids(1)]
    b = [ids(1), ids(), ids(1), ids()]
    found = overlaps(a, b, subjects=["s"] * 4, n=5)
    nothing = dict.fromkeys(found.of(0))
    assert found.of(0) == nothing  # a set is missing
    assert found.of(1) == nothing  # both are empty
    assert (found.of(2)["jaccard"], found.of(2)["share"]) == (0.0, None)  # a share of nothing
    assert (found.of(3)["jaccard"], found.of(3)["share"]) == (0.0, 0.0)
    assert found.of(3)["unrelated_jaccard"] is None  # no other subject
    with pytest.raises(ValueError, match="same records"):
        overlaps(a, b[:3], subjects=["s"] * 4, n=5)


@pytest.mark.parametrize(("a", "b", "n"), [(2, 3, 6), (4, 4, 5), (1, 5, 5), (0, 2, 4), (3, 3, 3)])
def test_the_level_of_random_sets_is_the_mean_over_all_of_them(a: int, b: int, n: int) -> None:
    fixed = set(range(a))
    values = []
    for drawn in itertools.combinations(range(n), b):
        common = len(fixed & set(drawn))
        values.append(common / (a + b - common))
    assert expected_jaccard(a, b, n) == pytest.approx(np.mean(values), rel=1e-12)


def test_levels_of_sets_as_large_as_a_model_s() -> None:
    assert 0.0004 < expected_jaccard(300, 300, 352_256) < 0.0005
    assert np.isnan(expected_jaccard(0, 0, 10))
    with pytest.raises(ValueError, match="at most 3"):
        expected_jaccard(4, 1, 3)


def test_no_sets_at_all() -> None:
    found = overlaps([], [], subjects=[], n=5)
    assert found.jaccard.size == found.unrelated_share.size == 0
    assert unrelated_mean(np.zeros((0, 0)), []).size == 0
