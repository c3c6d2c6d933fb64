"""Mean and spread over seeds, and differences over records and seeds, against slow references."""

import math
import statistics
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics.bootstrap import Estimate, paired_difference, unpaired_difference
from metrics.seeds import OverSeeds, difference_over_seeds, over_seeds, unpaired_over_seeds

PERCENT = st.floats(0, 100, allow_nan=False)
NOTHING = Estimate(math.nan, math.nan, math.nan, 0)


def of_run(mean: float, n: int = 9) -> Estimate:
    return Estimate(mean, mean - 1, mean + 1, n)


@given(st.lists(PERCENT, min_size=2, max_size=8))
def test_mean_and_spread_are_those_of_exact_arithmetic(means: list[float]) -> None:
    value = over_seeds([of_run(mean) for mean in means])
    assert isinstance(value, OverSeeds)
    exact = [Fraction(mean) for mean in means]
    centre = sum(exact) / len(exact)
    variance = sum((x - centre) ** 2 for x in exact) / (len(exact) - 1)
    assert value.mean == pytest.approx(float(centre), abs=1e-9)
    assert value.sd == pytest.approx(math.sqrt(variance), abs=1e-9)
    assert value.sd == pytest.approx(statistics.stdev(means), abs=1e-9)
    assert (value.low, value.high) == (value.mean - value.sd, value.mean + value.sd)


def test_one_run_keeps_its_interval_over_records() -> None:
    assert over_seeds([of_run(40.0)]) == of_run(40.0)
    with pytest.raises(ValueError, match="at least one run"):
        over_seeds([])


def test_one_seed_of_several_has_no_spread() -> None:
    value = over_seeds([of_run(40.0), NOTHING])
    assert isinstance(value, OverSeeds)
    assert (value.mean, value.sd, value.low, value.high) == (40.0, None, 40.0, 40.0)
    assert over_seeds([NOTHING, NOTHING]).n == 0


def drawn(seed: int, seeds: int, records: int, spread: float = 0.0) -> np.ndarray:
    """(seeds, records) scores; each seed lies `spread` away from the next."""
    rng = np.random.default_rng(seed)
    return rng.integers(0, 4, (seeds, records)) / 3 + spread * np.arange(seeds)[:, None]


def slow_interval(a: np.ndarray, b: np.ndarray, resamples: int) -> tuple[float, float]:
    """The definition, a draw at a time, with draws of its own."""
    rng = np.random.default_rng(99)
    means = []
    for _ in range(resamples):
        records = rng.integers(0, a.shape[1], a.shape[1])
        first = [a[s, records].mean() for s in rng.integers(0, len(a), len(a))]
        second = [b[s, records].mean() for s in rng.integers(0, len(b), len(b))]
        means.append(np.mean(first) - np.mean(second))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize(("k", "m"), [(3, 1), (1, 4), (3, 4)])
def test_a_difference_is_the_one_of_the_definition(k: int, m: int) -> None:
    a, b = drawn(1, k, 50, spread=0.1), drawn(2, m, 50, spread=0.2)
    value = difference_over_seeds(a, b, seed=3, resamples=4000)
    assert value.mean == pytest.approx(a.mean() - b.mean())
    assert value.n == 50
    low, high = slow_interval(a, b, 4000)
    assert (value.low, value.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_with_one_seed_each_it_is_the_paired_difference_bit_for_bit() -> None:
    a, b = drawn(1, 1, 30), drawn(2, 1, 30)
    assert difference_over_seeds(a, b, seed=5) == paired_difference(a[0], b[0], seed=5)
    c = drawn(3, 1, 20)
    assert unpaired_over_seeds(a, c, seed=5) == unpaired_difference(a[0], c[0], seed=5)


def test_an_interval_over_seeds_is_wider_than_that_of_their_mean() -> None:
    a, b = drawn(1, 3, 60, spread=0.3), drawn(2, 1, 60)
    of_mean = paired_difference(a.mean(axis=0), b[0], seed=0)
    value = difference_over_seeds(a, b, seed=0)
    assert value.mean == pytest.approx(of_mean.mean)
    assert value.half_width > 2 * of_mean.half_width


def test_paired_seeds_cancel_what_they_share() -> None:
    b = drawn(1, 4, 40, spread=0.5)
    a = b + 0.25
    paired = difference_over_seeds(a, b, seed=0, same_seeds=True)
    assert (paired.low, paired.high) == (pytest.approx(0.25), pytest.approx(0.25))
    apart = difference_over_seeds(a, b, seed=0)
    assert apart.low < 0 < apart.high
    both = unpaired_over_seeds(a, b, seed=0, same_seeds=True)
    assert both.half_width < unpaired_over_seeds(a, b, seed=0).half_width


def test_without_records_there_is_no_difference() -> None:
    for difference in (difference_over_seeds, unpaired_over_seeds):
        value = difference(np.empty((3, 0)), np.empty((2, 0)), seed=0)
        assert value.n == 0
        assert math.isnan(value.mean)
