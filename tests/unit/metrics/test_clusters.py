"""Intervals that draw whole clusters of records, against a slow reference and for coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics import bootstrap
from metrics.bootstrap import (
    bootstrap_ci,
    estimate,
    estimates,
    paired_difference,
    unpaired_difference,
)
from metrics.collection import headline_metrics, variant_metrics
from metrics.seeds import difference_over_seeds, unpaired_over_seeds

SCORES = st.lists(st.floats(-100, 100, allow_nan=False), min_size=2, max_size=30)


def unequal(seed: int, clusters: int = 25, spread: float = 1.0) -> tuple[np.ndarray, list[str]]:
    """Scores of records in clusters of 1 to 12, each cluster around a centre of its own."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 13, clusters)
    labels = [f"t{number}" for number, size in enumerate(sizes) for _ in range(size)]
    centres = rng.normal(0, spread, clusters)
    scores = np.repeat(centres, sizes) + rng.normal(0, 0.3, len(labels))
    order = rng.permutation(len(labels))  # records of a cluster do not stand side by side
    return scores[order], [labels[place] for place in order]


def slow_interval(
    scores: np.ndarray, labels: list[str], resamples: int = 4000
) -> tuple[float, float]:
    """The definition, a draw at a time, with draws of its own."""
    rng = np.random.default_rng(99)
    names = sorted(set(labels))
    of = {name: scores[[label == name for label in labels]] for name in names}
    means = [
        np.concatenate(
            [of[names[place]] for place in rng.integers(0, len(names), len(names))]
        ).mean()
        for _ in range(resamples)
    ]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


@pytest.mark.parametrize("seed", [1, 2])
def test_an_interval_over_clusters_is_the_one_of_the_definition(seed: int) -> None:
    scores, labels = unequal(seed)
    found = estimate(scores, clusters=labels, resamples=4000)
    low, high = slow_interval(scores, labels)
    width = high - low
    assert found.mean == pytest.approx(scores.mean())
    assert found.n == len(scores)
    assert found.low == pytest.approx(low, abs=0.05 * width)
    assert found.high == pytest.approx(high, abs=0.05 * width)
    assert width > 1.5 * 2 * estimate(scores).half_width  # what records alone would have said


def test_an_interval_over_clusters_covers_the_truth_and_one_over_records_does_not() -> None:
    covered = {"clusters": 0, "records": 0}
    for seed in range(200):
        scores, labels = unequal(seed, clusters=40)
        for name, of in (("clusters", labels), ("records", None)):
            low, high = bootstrap_ci(scores, seed=seed, resamples=200, clusters=of)
            covered[name] += low <= 0 <= high
    assert 0.88 <= covered["clusters"] / 200 <= 0.99
    assert covered["records"] / 200 < 0.7


@given(SCORES, st.integers(0, 5))
def test_clusters_of_one_record_are_records_bit_for_bit(scores: list[float], seed: int) -> None:
    labels = [f"s{place}" for place in range(len(scores))]
    assert estimate(scores, clusters=labels, seed=seed, resamples=40) == estimate(
        scores, seed=seed, resamples=40
    )


@given(SCORES, st.integers(2, 4), st.integers(0, 5))
def test_the_names_of_clusters_and_the_order_within_one_decide_nothing(
    scores: list[float], times: int, seed: int
) -> None:
    labels = [place // times for place in range(len(scores))]
    first = bootstrap_ci(scores, clusters=labels, seed=seed, resamples=40)
    other = [f"x{len(scores) - label}" for label in labels]
    assert str(bootstrap_ci(scores, clusters=other, seed=seed, resamples=40)) == str(first)
    # Equal scores in clusters of any size have no spread: a draw is a ratio, not a sum.
    if len(set(labels)) > 1:
        assert bootstrap_ci([7.0] * len(scores), clusters=labels, seed=seed) == (7.0, 7.0)


def test_one_cluster_has_a_mean_and_no_interval() -> None:
    alone = estimate([0.0, 1.0], clusters=["a", "a"], scale=100)
    assert (alone.mean, alone.n, alone.has_interval) == (50.0, 2, False)
    assert math.isnan(alone.half_width)
    assert alone.as_dict() == {"mean": 50.0, "ci95": [None, None], "n": 2}
    assert not estimate([], clusters=[]).has_interval
    assert not estimate([0.5]).has_interval  # nor has one record, which is its own cluster
    several, single = ["a", "b"], ["a", "a"]
    values = np.array([0.0, 1.0])
    for found in (
        paired_difference(values, [0, 0], clusters=single),
        unpaired_difference(values, [0, 0], clusters=(several, single)),
        difference_over_seeds(np.array([values, values]), values[None], seed=0, clusters=single),
        unpaired_over_seeds(
            np.array([values, values]), values[None], seed=0, clusters=(single, several)
        ),
    ):
        assert (found.n, found.has_interval) == (2, False)
        assert not math.isnan(found.mean)


@pytest.mark.parametrize("elements", [1, 50, 10**6])
def test_many_estimates_with_clusters_are_single_ones(
    elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "BLOCK_ELEMENTS", elements)
    columns = [np.random.default_rng(seed).random(9) for seed in range(4)]
    labels = [None, list("aabbccddd"), list("aabbccdde"), ["a"] * 9]
    many = estimates(columns, seed=4, resamples=50, clusters=labels)
    single = [
        estimate(column, seed=4, resamples=50, clusters=own)
        for column, own in zip(columns, labels, strict=True)
    ]
    assert str(many) == str(single)
    assert len({value.low for value in many if value.has_interval}) == 3


def test_wrong_numbers_of_labels_are_refused() -> None:
    with pytest.raises(ValueError, match="the clusters of 3 records, got 2"):
        bootstrap_ci([1.0, 2.0, 3.0], clusters=["a", "b"])
    with pytest.raises(ValueError, match="clusters of 2 vectors, got 1"):
        estimates([[1.0], [2.0]], clusters=[None])


@pytest.mark.parametrize("k", [1, 3])
def test_differences_over_seeds_draw_whole_clusters(k: int) -> None:
    scores, labels = unequal(5)
    a = scores[None] + 0.2 * np.arange(k)[:, None]
    b = np.zeros((1, len(scores)))
    found = difference_over_seeds(a, b, seed=1, resamples=4000, clusters=labels)
    rng = np.random.default_rng(7)
    names = sorted(set(labels))
    of = {name: [place for place, label in enumerate(labels) if label == name] for name in names}
    means = []
    for _ in range(4000):
        drawn = [place for name in rng.choice(names, len(names)) for place in of[name]]
        means.append(np.mean([a[s, drawn].mean() for s in rng.integers(0, k, k)]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert found.mean == pytest.approx(a.mean())
    assert found.low == pytest.approx(low, abs=0.05 * (high - low))
    assert found.high == pytest.approx(high, abs=0.05 * (high - low))


def test_unpaired_sets_draw_their_own_clusters() -> None:
    (a, of_a), (b, of_b) = unequal(1), unequal(2)
    found = unpaired_difference(a, b, clusters=(of_a, of_b), resamples=4000)
    apart = [np.subtract(*slow_interval(*side)[::-1]) for side in ((a, of_a), (b, of_b))]
    assert 2 * found.half_width == pytest.approx(math.hypot(*apart), rel=0.1)
    assert unpaired_over_seeds(a[None], b[None], seed=0, clusters=(of_a, of_b)) == (
        unpaired_difference(a, b, clusters=(of_a, of_b))
    )


def test_named_metrics_draw_the_clusters_of_their_own_records() -> None:
    """Of twelve edits of three targets; those of the first alone have a paraphrase."""
    values = {edit: float(edit < 8) for edit in range(12)}
    scores = {
        ("reliability", "token_accuracy"): values,
        ("reliability", "token_accuracy_before"): dict.fromkeys(values, 0.0),
        ("generality", "token_accuracy"): {0: 1.0, 1: 0.5},
    }
    clusters = {edit: "prt"[edit // 4] for edit in values}
    got = headline_metrics(scores, "unimodal", clusters=clusters)
    assert got["Reliability"] == estimate(
        list(values.values()), scale=100, clusters=list(clusters.values())
    )
    assert got["Reliability"] != headline_metrics(scores, "unimodal")["Reliability"]
    assert (got["Generality"].mean, got["Generality"].has_interval) == (75.0, False)
    gains = variant_metrics(scores, "unimodal", clusters=clusters)
    assert gains["Reliability_gain"] == got["Reliability"]
