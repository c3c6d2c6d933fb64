"""Intervals of means and of paired differences."""

import math

import numpy as np
import pytest

from metrics import bootstrap
from metrics.bootstrap import (
    Estimate,
    bootstrap_ci,
    estimate,
    estimates,
    paired_difference,
    resampled_means,
    share_of,
    unpaired_difference,
)


def test_interval_has_the_width_of_the_normal_one() -> None:
    values = np.random.default_rng(1).normal(5, 2, size=400)
    low, high = bootstrap_ci(values, resamples=4000)
    half = 1.96 * values.std() / math.sqrt(400)
    assert low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(300):
        low, high = bootstrap_ci(rng.random(60) < 0.6, seed=seed, resamples=400)
        covered += low <= 0.6 <= high
    assert 0.90 <= covered / 300 <= 0.99


def test_level_widens_the_interval() -> None:
    values = np.arange(30.0)
    narrow, wide = bootstrap_ci(values, level=0.5), bootstrap_ci(values, level=0.99)
    assert wide[0] < narrow[0] < narrow[1] < wide[1]


def test_seed_fixes_the_draws() -> None:
    values = np.arange(50.0)
    assert bootstrap_ci(values, seed=3) == bootstrap_ci(values, seed=3)
    assert bootstrap_ci(values, seed=3) != bootstrap_ci(values, seed=4)


@pytest.mark.parametrize("elements", [1, 7 * 13, 10**6])
def test_block_size_does_not_change_the_interval(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = np.random.default_rng(0).random(13)
    whole = bootstrap_ci(values, resamples=100)
    monkeypatch.setattr(bootstrap, "BLOCK_ELEMENTS", elements)
    assert bootstrap_ci(values, resamples=100) == whole


def test_no_records_and_one_record() -> None:
    nothing = estimate([])
    assert nothing.n == 0
    assert math.isnan(nothing.mean)
    assert nothing.as_dict() == {"mean": None, "ci95": [None, None], "n": 0}
    one = estimate([0.5], scale=100)
    assert (one.mean, one.n, one.has_interval) == (50.0, 1, False)
    assert one.as_dict() == {"mean": 50.0, "ci95": [None, None], "n": 1}
    with_cluster = estimate([0.5], scale=100, clusters=["a"])
    assert with_cluster.as_dict() == one.as_dict()
    assert not any(
        found.has_interval
        for found in (
            paired_difference([1.0], [0.5]),
            unpaired_difference([1.0, 2.0], [0.5]),
            *estimates([[1.0], [2.0]]),
        )
    )
    assert share_of([0.5], [1.0]).n == 0


def test_estimate_in_the_form_of_the_file() -> None:
    assert Estimate(50.0, 40.0, 70.0, 9).as_dict() == {"mean": 50.0, "ci95": [40.0, 70.0], "n": 9}
    assert Estimate(50.0, 40.0, 70.0, 9).half_width == 15


def test_paired_difference_is_narrower_than_the_records_are_spread() -> None:
    difficulty = np.random.default_rng(0).normal(0, 10, size=100)
    found = paired_difference(difficulty + 1, difficulty)
    assert found.mean == pytest.approx(1)
    assert found.high - found.low < 1e-9
    assert found.n == 100


def test_paired_difference_of_equal_editors_covers_zero() -> None:
    rng = np.random.default_rng(0)
    found = paired_difference(rng.random(200), rng.random(200))
    assert found.low < 0 < found.high


@pytest.mark.parametrize("values", [[1.0, float("nan")], [float("inf")], [[1.0]]])
def test_scores_that_are_not_finite_numbers_are_refused(values: list[object]) -> None:
    with pytest.raises(ValueError, match="vector of finite scores"):
        bootstrap_ci(values)  # type: ignore[arg-type]


def test_options_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="resamples"):
        bootstrap_ci([1.0], resamples=0)
    with pytest.raises(ValueError, match="level"):
        bootstrap_ci([1.0], level=1.0)
    with pytest.raises(ValueError, match="paired"):
        paired_difference([1.0], [1.0, 2.0])


@pytest.mark.parametrize("elements", [1, 10**6])
def test_many_estimates_are_single_ones_bit_for_bit(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("metrics.bootstrap.BLOCK_ELEMENTS", elements)
    columns = [np.random.default_rng(seed).random(n) for seed, n in enumerate((9, 9, 0, 30, 1))]
    many = estimates(columns, resamples=50, seed=4, scale=100)
    single = [estimate(column, resamples=50, seed=4, scale=100) for column in columns]
    assert str(many) == str(single)  # nan is not equal to nan


def test_independent_differences_are_wider_than_paired_ones_where_records_are_alike() -> None:
    hard = np.random.default_rng(0).random(200)
    first, second = hard + 0.1, hard
    paired, apart = paired_difference(first, second), unpaired_difference(first, second)
    assert paired.mean == pytest.approx(apart.mean)
    # The standard error of a difference of two independent means.
    normal = 1.96 * np.sqrt(2 * hard.var() / 200)
    assert apart.half_width == pytest.approx(normal, rel=0.15)
    assert paired.half_width < 1e-9
    assert unpaired_difference([], [1.0]).n == 0


@pytest.mark.parametrize("labels", [None, [number // 2 for number in range(31)]])
def test_a_share_is_the_ratio_of_the_means_of_each_draw(labels: list[int] | None) -> None:
    rng = np.random.default_rng(0)
    whole = rng.uniform(0, 2, 31)
    part = 0.4 * whole + rng.normal(0, 0.3, 31)
    share = share_of(part, whole, seed=3, resamples=300, clusters=labels)
    of_draws = [
        resampled_means([values], 300, 3, labels)[0] for values in (part, whole)
    ]  # by the same seed both draw the same records
    expected = np.quantile(100 * of_draws[0] / of_draws[1], [0.025, 0.975])
    assert (share.low, share.high) == pytest.approx(tuple(expected))
    assert share.mean == pytest.approx(100 * part.sum() / whole.sum())
    assert share_of(0.25 * whole, whole, clusters=labels).high == pytest.approx(25)


def test_there_is_no_share_of_what_is_not_told_from_nothing() -> None:
    whole = np.array([1.0, -1.0, 0.5, -0.25])
    assert share_of([1.0] * 4, whole).n == 0
    assert share_of([], []).n == 0
    assert share_of([1.0, 1.0], [1.0, 1.0], clusters=["a", "a"]).n == 0
    with pytest.raises(ValueError, match="paired scores, got 1 and 2"):
        share_of([1.0], [1.0, 2.0])
