"""Runs that differ in nothing but their seeds: their mean, its spread, and differences of means.

With m_s a metric of the run with seed s, over k seeds,

    mean = 1/k Σ_s m_s,        SD = sqrt( Σ_s (m_s - mean)² / (k - 1) ),       no SD for k = 1.

The SD says how far one run lies from another by its seed alone. It is no interval of the mean, and
it holds nothing about the choice of records, which the bootstrap interval of one run is about.

A difference of two such means has an interval over both. Records and seeds are resampled apart from
each other (the pigeonhole bootstrap, Owen 2007), with R* records, S* and T* seeds drawn with
replacement, as many as there are:

    d* = mean_{s in S*} mean_{r in R*} a(s, r)  -  mean_{t in T*} mean_{r in R*} b(t, r).

Where records have clusters, R* is made of whole ones (`metrics.bootstrap`).
With one seed each it is `metrics.bootstrap.paired_difference`, bit for bit. From k seeds the part
that seeds have in the variance comes out too small, by (k - 1) / k as in every bootstrap.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from metrics.bootstrap import (
    RESAMPLES,
    Estimate,
    Labels,
    cannot_be_drawn,
    estimates,
    percentile_interval,
    resampled_means,
    unpaired_difference,
)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OverSeeds:
    """A metric over the seeds of one setting, in the unit of the runs' means.

    Attributes:
        means: of the runs, one a seed.
        n: number of records of a run.
    """

    means: tuple[float, ...]
    n: int

    @property
    def mean(self) -> float:
        return math.fsum(self.means) / len(self.means)

    @property
    def sd(self) -> float | None:
        """Standard deviation of a run around the mean, with k - 1; None for one seed."""
        if len(self.means) < 2:
            return None
        squares = math.fsum((m - self.mean) ** 2 for m in self.means)
        return math.sqrt(squares / (len(self.means) - 1))

    @property
    def low(self) -> float:
        """One SD below the mean, where an error bar begins."""
        return self.mean - (self.sd or 0.0)

    @property
    def high(self) -> float:
        """One SD above the mean, where an error bar ends."""
        return self.mean + (self.sd or 0.0)


Measured = Estimate | OverSeeds  # of one run, or of several


def over_seeds(of_runs: Sequence[Estimate]) -> Measured:
    """One metric of the runs of one setting.

    Args:
        of_runs: one estimate a seed; those without records say nothing and are left out.

    Returns:
        The estimate itself where there is one run, and of several their mean and spread; an
        estimate without records where no run has any.

    Raises:
        ValueError: there is no run.

    >>> value = over_seeds([Estimate(1.0, 0, 2, 9), Estimate(3.0, 2, 4, 9)])
    >>> value.mean, round(value.sd, 3), value.n
    (2.0, 1.414, 9)
    """
    if not of_runs:
        raise ValueError("expected at least one run")
    measured = [value for value in of_runs if value.n]
    if len(of_runs) == 1 or not measured:
        return of_runs[0]
    return OverSeeds(tuple(v.mean for v in measured), min(v.n for v in measured))


def difference_over_seeds(
    a: Floats,
    b: Floats,
    *,
    seed: int,
    same_seeds: bool = False,
    resamples: int = RESAMPLES,
    clusters: Labels | None = None,
) -> Estimate:
    """Mean of `a` minus mean of `b`, both judged on the same records, with its 95 % interval.

    Args:
        a: (k, n) scores, a line a seed, a column a record.
        b: (l, n) scores of the same records.
        seed: of the draws.
        same_seeds: line s of both is of one seed that bears on both (of one training that both
            judge), so that seeds are paired as records are; k = l.
        resamples: how many samples are drawn.
        clusters: (n,) labels, equal for records that are drawn together; None: each alone.

    Returns:
        The difference, over n records. All nan without a record; no interval of one record, and
        where all are of one cluster.
    """
    n = a.shape[1]
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if same_seeds or len(a) == len(b) == 1:
        a, b = a - b, np.zeros((1, n))
    if len(a) == len(b) == 1:
        return estimates([a[0]], seed=seed, resamples=resamples, clusters=[clusters])[0]
    difference = float(a.mean() - b.mean())
    if cannot_be_drawn(n, clusters):
        return Estimate(difference, math.nan, math.nan, n)
    draws = _means_over_seeds(a, seed, 0, resamples, clusters)
    draws = draws - _means_over_seeds(b, seed, 1, resamples, clusters)
    low, high = percentile_interval(draws)
    return Estimate(difference, low, high, n)


def unpaired_over_seeds(
    a: Floats,
    b: Floats,
    *,
    seed: int,
    same_seeds: bool = False,
    resamples: int = RESAMPLES,
    clusters: tuple[Labels, Labels] | None = None,
) -> Estimate:
    """The same where the records of both have nothing to do with each other: each is drawn apart.

    Args:
        a: (k, n) scores.
        b: (l, m) scores.
        seed: of the draws; `b` takes the next one for its records.
        same_seeds: as above.
        resamples: how many samples are drawn.
        clusters: labels of the records of both, as above.

    Returns:
        The difference; n is the smaller number of records.
    """
    n = min(a.shape[1], b.shape[1])
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    if len(a) == len(b) == 1:
        return unpaired_difference(a[0], b[0], seed=seed, resamples=resamples, clusters=clusters)
    difference, side = float(a.mean() - b.mean()), 0 if same_seeds else 1
    of_a, of_b = clusters or (None, None)
    if cannot_be_drawn(a.shape[1], of_a) or cannot_be_drawn(b.shape[1], of_b):
        return Estimate(difference, math.nan, math.nan, n)
    draws = _means_over_seeds(a, seed, 0, resamples, of_a)
    draws = draws - _means_over_seeds(b, seed, side, resamples, of_b, record_seed=seed + 1)
    low, high = percentile_interval(draws)
    return Estimate(difference, low, high, n)


def _means_over_seeds(
    scores: Floats,
    seed: int,
    side: int,
    resamples: int,
    clusters: Labels | None,
    *,
    record_seed: int | None = None,
) -> Floats:
    """(resamples,) means over drawn seeds of means over drawn records.

    Args:
        scores: (k, n).
        seed: of the draws.
        side: 0 or 1; sides of a difference draw their seeds apart.
        resamples: how many samples are drawn.
        clusters: (n,) labels of the records.
        record_seed: of the draws of records, which all seeds share; `seed` if None.
    """
    shared = seed if record_seed is None else record_seed
    means = resampled_means(list(scores), resamples, shared, clusters)  # (k, resamples)
    k = len(scores)
    if k == 1:
        of_one: Floats = means[0]
        return of_one
    drawn = np.random.default_rng([seed, side + 1]).integers(0, k, size=(k, resamples))
    picked: Floats = np.take_along_axis(means, drawn, axis=0).mean(axis=0)
    return picked
