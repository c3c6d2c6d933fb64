"""Percentile bootstrap: confidence intervals of means and of paired differences.

A metric of the benchmark is a mean over records (edits), so records are what is resampled (Efron
1979): draw n records with replacement `resamples` times, take the mean of each draw, and read the
interval off the quantiles of those means,

    CI = [Q_{(1-level)/2}, Q_{(1+level)/2}] of { mean(x*_1), ..., mean(x*_R) }.

Records that share a subject or a target are alike, and an interval that takes them for independent
is too narrow. Where records have `clusters`, whole clusters are drawn, as many as there are (the
cluster bootstrap, Davison and Hinkley 1997, section 3.8), and the mean of a draw is the ratio

    mean* = sum_{g drawn} sum_{r in g} x_r / sum_{g drawn} |g|,

so that clusters of unequal size are right. With one record each it is the same as without, bit for
bit. One record alone, and the records of one cluster alone, say nothing about others: there is a
mean and no interval.

The draws are made in blocks, so that memory does not grow with the number of resamples; the block
size does not change the result. Only numpy is imported: the report reads result folders without
loading torch.
"""

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
BLOCK_ELEMENTS = 4_000_000  # 32 MB of drawn indices at a time

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]
Labels = Sequence[Hashable]  # of a vector's records, equal for those of one cluster


@dataclass(frozen=True)
class Estimate:
    """A mean over records with its confidence interval.

    Attributes:
        mean: the mean, in percent wherever the project reports it; nan without records.
        low: lower end of the 95 % interval, same unit; nan where nothing can be drawn.
        high: upper end, same unit.
        n: number of records.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def has_interval(self) -> bool:
        """Whether anything is known of the mean's spread."""
        return self.n > 0 and not math.isnan(self.low)

    @property
    def half_width(self) -> float:
        """Half the width of the interval, the number behind the ± of a table; nan without one."""
        return (self.high - self.low) / 2

    def as_dict(self) -> dict[str, object]:
        """The form of `summary.json`; JSON has no nan, so a metric without records holds null."""
        if self.n == 0:
            return {"mean": None, "ci95": [None, None], "n": 0}
        if not self.has_interval:
            return {"mean": self.mean, "ci95": [None, None], "n": self.n}
        return {"mean": self.mean, "ci95": [self.low, self.high], "n": self.n}


def bootstrap_ci(
    values: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    clusters: Labels | None = None,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) one finite number per record.
        resamples: how many samples are drawn.
        seed: equal seeds give equal intervals.
        level: the coverage, in (0, 1).
        clusters: (n,) labels, equal for records that are drawn together; None: each alone.

    Returns:
        Lower and upper end in the unit of `values`; (nan, nan) of fewer than two values, and where
        all are of one cluster.

    Raises:
        ValueError: values that are not finite or not one-dimensional, another number of labels,
            resamples < 1, or a level outside (0, 1).

    >>> bootstrap_ci([2.0, 2.0, 2.0])
    (2.0, 2.0)
    >>> bootstrap_ci([0.0, 1.0, 1.0], clusters=["a", "a", "a"])
    (nan, nan)
    """
    array = _finite_vector(values)
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    if array.size == 0 or cannot_be_drawn(array.size, clusters):
        return math.nan, math.nan
    (means,) = resampled_means([array], resamples, seed, clusters)
    return percentile_interval(means, level)


def estimate(
    values: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    scale: float = 1.0,
    clusters: Labels | None = None,
) -> Estimate:
    """Mean, 95 % interval and count of `values`, each multiplied by `scale` (100: percent).

    Args:
        values: (n,) one finite number per record.
        resamples: how many samples are drawn.
        seed: of the draws.
        scale: factor from the unit of `values` to the one that is reported.
        clusters: (n,) labels, equal for records that are drawn together; None: each alone.

    Returns:
        The estimate; mean and interval are nan without values.

    Raises:
        ValueError: values that are not finite or not one-dimensional, another number of labels.

    >>> estimate([1.0, 1.0], scale=100)
    Estimate(mean=100.0, low=100.0, high=100.0, n=2)
    """
    array = _finite_vector(values) * scale
    low, high = bootstrap_ci(array, resamples=resamples, seed=seed, clusters=clusters)
    mean = float(array.mean()) if array.size else float("nan")
    return Estimate(mean=mean, low=low, high=high, n=int(array.size))


def estimates(
    columns: Sequence[npt.ArrayLike],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    scale: float = 1.0,
    clusters: Sequence[Labels | None] | None = None,
) -> list[Estimate]:
    """`estimate` of several vectors at once: the same numbers, bit for bit, in less time.

    What is drawn depends on the seed and the number of records (or clusters) alone, so vectors of
    one length and the same clusters share their draws: differences of many editors and metrics cost
    one resampling of the records.

    Args:
        columns: each (n_i,) finite numbers, one per record.
        resamples: how many samples are drawn.
        seed: of the draws.
        scale: factor from the unit of the vectors to the one that is reported.
        clusters: labels of each vector's records, as for `estimate`; None: all are drawn alone.

    Returns:
        One estimate per vector, in their order.

    Raises:
        ValueError: values that are not finite or not one-dimensional, another number of labels.

    >>> estimates([[1.0, 1.0], [], [0.5, 0.5]])[2]
    Estimate(mean=0.5, low=0.5, high=0.5, n=2)
    """
    arrays = [_finite_vector(column) * scale for column in columns]
    labels: Sequence[Labels | None] = [None] * len(arrays) if clusters is None else clusters
    if len(labels) != len(arrays):
        raise ValueError(f"expected clusters of {len(arrays)} vectors, got {len(labels)}")
    of_columns = [Estimate(math.nan, math.nan, math.nan, 0)] * len(arrays)
    drawn_alike: dict[Hashable, list[int]] = {}
    for i, (array, own) in enumerate(zip(arrays, labels, strict=True)):
        if array.size and cannot_be_drawn(array.size, own):
            of_columns[i] = Estimate(float(array.mean()), math.nan, math.nan, array.size)
        elif array.size:
            drawn_alike.setdefault((array.size, None if own is None else tuple(own)), []).append(i)
    for alike in drawn_alike.values():
        resampled = resampled_means([arrays[i] for i in alike], resamples, seed, labels[alike[0]])
        for i, means in zip(alike, resampled, strict=True):
            low, high = percentile_interval(means)
            of_columns[i] = Estimate(float(arrays[i].mean()), low, high, arrays[i].size)
    return of_columns


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Labels | None = None,
) -> Estimate:
    """Mean of `a - b` over records that both were scored on, with its 95 % interval.

    Two editors meet the same records, so the difference is resampled record by record; this is much
    narrower than comparing two intervals where easy records are easy for both.

    Args:
        a: (n,) scores of one editor.
        b: (n,) scores of the other, record i of one being record i of the other.
        resamples: how many samples are drawn.
        seed: of the draws.
        clusters: (n,) labels of the records, as for `estimate`.

    Returns:
        The difference in the unit of the scores; an interval that excludes 0 says that the editors
        differ.

    Raises:
        ValueError: lengths differ, or values are not finite.

    >>> paired_difference([1.0, 0.0], [0.5, -0.5])
    Estimate(mean=0.5, low=0.5, high=0.5, n=2)
    """
    first, second = _finite_vector(a), _finite_vector(b)
    if first.shape != second.shape:
        raise ValueError(f"expected paired scores, got {first.size} and {second.size}")
    return estimate(first - second, resamples=resamples, seed=seed, clusters=clusters)


def unpaired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: tuple[Labels, Labels] | None = None,
) -> Estimate:
    """Difference of two means over records that have nothing to do with each other.

    Both sets are resampled, each by itself; where both hold the same records, `paired_difference`
    is the narrower and the right one.

    Args:
        a: (n,) scores over one set of records.
        b: (m,) scores over the other.
        resamples: how many samples are drawn of each.
        seed: of the draws; the second set takes the next one, so that equal sizes draw apart.
        clusters: labels of the records of both sets, as for `estimate`.

    Returns:
        mean(a) - mean(b) in the unit of the scores; n is the smaller number of records. All nan
        where one of the sets is empty; no interval where one of them is one record or one cluster.

    Raises:
        ValueError: values are not finite.

    >>> unpaired_difference([1.0, 1.0, 1.0], [0.25, 0.25])
    Estimate(mean=0.75, low=0.75, high=0.75, n=2)
    """
    first, second = _finite_vector(a), _finite_vector(b)
    n = min(first.size, second.size)
    if n == 0:
        return Estimate(math.nan, math.nan, math.nan, 0)
    difference = float(first.mean() - second.mean())
    of_first, of_second = clusters or (None, None)
    if cannot_be_drawn(first.size, of_first) or cannot_be_drawn(second.size, of_second):
        return Estimate(difference, math.nan, math.nan, n)
    (means,) = resampled_means([first], resamples, seed, of_first)
    (others,) = resampled_means([second], resamples, seed + 1, of_second)
    low, high = percentile_interval(means - others)
    return Estimate(difference, low, high, n)


def share_of(
    part: npt.ArrayLike,
    whole: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    clusters: Labels | None = None,
) -> Estimate:
    """How much of one mean is left in another, in percent: 100 mean(part) / mean(whole).

    Both are of the same records, which are drawn together, so that a draw's share is the ratio of
    its own two means. A share of what is not told from 0 says nothing.

    Args:
        part: (n,) scores of the records.
        whole: (n,) other scores of the same records.
        resamples: how many samples are drawn.
        seed: of the draws.
        clusters: (n,) labels of the records, as for `estimate`.

    Returns:
        The share with its 95 % interval; without records, and nan, unless the interval of
        mean(whole) lies above 0.

    Raises:
        ValueError: lengths differ, or values are not finite.

    >>> share_of([0.5, 1.0], [1.0, 2.0])
    Estimate(mean=50.0, low=50.0, high=50.0, n=2)
    >>> share_of([0.5, 1.0], [0.0, 2.0]).n
    0
    """
    first, second = _finite_vector(part), _finite_vector(whole)
    if first.shape != second.shape:
        raise ValueError(f"expected paired scores, got {first.size} and {second.size}")
    nothing = Estimate(math.nan, math.nan, math.nan, 0)
    if first.size == 0 or cannot_be_drawn(first.size, clusters):
        return nothing
    parts, wholes = resampled_means([first, second], resamples, seed, clusters)
    if not percentile_interval(wholes)[0] > 0:
        return nothing
    told = wholes > 0  # the few draws below the interval have no share
    low, high = percentile_interval(100 * parts[told] / wholes[told])
    return Estimate(float(100 * first.mean() / second.mean()), low, high, first.size)


def resampled_means(
    arrays: Sequence[Floats], resamples: int, seed: int, clusters: Labels | None = None
) -> Floats:
    """Means of `resamples` draws with replacement of vectors of one length, (k, resamples).

    What is drawn depends on `seed` and the number of records, or of clusters, alone, so all vectors
    are drawn alike.

    Raises:
        ValueError: there is another number of labels than of records.
    """
    rng = np.random.default_rng(seed)
    size = arrays[0].size
    cluster = np.arange(size) if clusters is None else _numbered(clusters, size)
    sizes = np.bincount(cluster)  # (G,) records of each cluster
    sums = [np.bincount(cluster, weights=array) for array in arrays]
    block = max(1, BLOCK_ELEMENTS // len(sizes))
    means = np.empty((len(arrays), resamples))
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = rng.integers(0, len(sizes), size=(stop - start, len(sizes)))  # (block, G)
        records = size if clusters is None else sizes[drawn].sum(axis=1)
        for row, of_clusters in enumerate(sums):
            means[row, start:stop] = of_clusters[drawn].sum(axis=1) / records
    return means


def cannot_be_drawn(n: int, clusters: Labels | None) -> bool:
    """Whether there is one record, or all are of one cluster: every draw would be the same."""
    return n == 1 or (clusters is not None and len(clusters) > 0 and len(set(clusters)) == 1)


def percentile_interval(means: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The quantiles of resampled means between which `level` of them lie."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _numbered(labels: Labels, size: int) -> Numbers:
    """(n,) clusters by number, in the order in which they first occur.

    Raises:
        ValueError: there is another number of labels than of records.
    """
    if len(labels) != size:
        raise ValueError(f"expected the clusters of {size} records, got {len(labels)}")
    numbers: dict[Hashable, int] = {}
    return np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.int64)


def _finite_vector(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"expected a vector of finite scores, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} values that are not finite"
        )
    return array
