"""Percentile bootstrap over records: confidence intervals of means and of paired differences.

A metric of the benchmark is a mean over records (edits), so records are what is resampled (Efron
1979): draw n records with replacement `resamples` times, take the mean of each draw, and read the
interval off the quantiles of those means,

    CI = [Q_{(1-level)/2}, Q_{(1+level)/2}] of { mean(x*_1), ..., mean(x*_R) }.

The draws are made in blocks, so that memory does not grow with the number of resamples; the block
size does not change the result. Only numpy is imported: the report reads result folders without
loading torch.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

RESAMPLES = 1000
LEVEL = 0.95
BLOCK_ELEMENTS = 4_000_000  # 32 MB of drawn indices at a time

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean over records with its confidence interval.

    Attributes:
        mean: the mean, in percent wherever the project reports it; nan without records.
        low: lower end of the 95 % interval, same unit.
        high: upper end, same unit.
        n: number of records.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the width of the interval, the number behind the ± of a table."""
        return (self.high - self.low) / 2

    def as_dict(self) -> dict[str, object]:
        """The form of `summary.json`; JSON has no nan, so a metric without records holds null."""
        if self.n == 0:
            return {"mean": None, "ci95": [None, None], "n": 0}
        return {"mean": self.mean, "ci95": [self.low, self.high], "n": self.n}


def bootstrap_ci(
    values: npt.ArrayLike,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: (n,) one finite number per record.
        resamples: how many samples are drawn.
        seed: equal seeds give equal intervals.
        level: the coverage, in (0, 1).

    Returns:
        Lower and upper end in the unit of `values`; (nan, nan) without values.

    Raises:
        ValueError: values that are not finite or not one-dimensional, resamples < 1, or a level
            outside (0, 1).

    >>> bootstrap_ci([2.0, 2.0, 2.0])
    (2.0, 2.0)
    """
    array = _finite_vector(values)
    if resamples < 1 or not 0 < level < 1:
        raise ValueError(f"expected resamples >= 1 and 0 < level < 1, got {resamples} and {level}")
    if array.size == 0:
        return float("nan"), float("nan")
    (means,) = resampled_means([array], resamples, seed)
    return percentile_interval(means, level)


def estimate(
    values: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0, scale: float = 1.0
) -> Estimate:
    """Mean, 95 % interval and count of `values`, each multiplied by `scale` (100: percent).

    Args:
        values: (n,) one finite number per record.
        resamples: how many samples are drawn.
        seed: of the draws.
        scale: factor from the unit of `values` to the one that is reported.

    Returns:
        The estimate; mean and interval are nan without values.

    Raises:
        ValueError: values that are not finite or not one-dimensional.

    >>> estimate([1.0, 1.0], scale=100)
    Estimate(mean=100.0, low=100.0, high=100.0, n=2)
    """
    array = _finite_vector(values) * scale
    low, high = bootstrap_ci(array, resamples=resamples, seed=seed)
    mean = float(array.mean()) if array.size else float("nan")
    return Estimate(mean=mean, low=low, high=high, n=int(array.size))


def estimates(
    columns: Sequence[npt.ArrayLike],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    scale: float = 1.0,
) -> list[Estimate]:
    """`estimate` of several vectors at once: the same numbers, bit for bit, in less time.

    What is drawn depends on the seed and the number of records alone, so vectors of one length
    share their draws: differences of many editors and metrics cost one resampling of the records.

    Args:
        columns: each (n_i,) finite numbers, one per record.
        resamples: how many samples are drawn.
        seed: of the draws.
        scale: factor from the unit of the vectors to the one that is reported.

    Returns:
        One estimate per vector, in their order.

    Raises:
        ValueError: values that are not finite or not one-dimensional.

    >>> estimates([[1.0, 1.0], [], [0.5, 0.5]])[2]
    Estimate(mean=0.5, low=0.5, high=0.5, n=2)
    """
    arrays = [_finite_vector(column) * scale for column in columns]
    nothing = Estimate(float("nan"), float("nan"), float("nan"), 0)
    of_columns = [nothing] * len(arrays)
    for size in sorted({array.size for array in arrays} - {0}):
        columns_of_size = [i for i, array in enumerate(arrays) if array.size == size]
        resampled = resampled_means([arrays[i] for i in columns_of_size], resamples, seed)
        for i, means in zip(columns_of_size, resampled, strict=True):
            low, high = percentile_interval(means)
            of_columns[i] = Estimate(float(arrays[i].mean()), low, high, size)
    return of_columns


def paired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Mean of `a - b` over records that both were scored on, with its 95 % interval.

    Two editors meet the same records, so the difference is resampled record by record; this is much
    narrower than comparing two intervals where easy records are easy for both.

    Args:
        a: (n,) scores of one editor.
        b: (n,) scores of the other, record i of one being record i of the other.
        resamples: how many samples are drawn.
        seed: of the draws.

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
    return estimate(first - second, resamples=resamples, seed=seed)


def unpaired_difference(
    a: npt.ArrayLike, b: npt.ArrayLike, *, resamples: int = RESAMPLES, seed: int = 0
) -> Estimate:
    """Difference of two means over records that have nothing to do with each other.

    Both sets are resampled, each by itself; where both hold the same records, `paired_difference`
    is the narrower and the right one.

    Args:
        a: (n,) scores over one set of records.
        b: (m,) scores over the other.
        resamples: how many samples are drawn of each.
        seed: of the draws; the second set takes the next one, so that equal sizes draw apart.

    Returns:
        mean(a) - mean(b) in the unit of the scores; n is the smaller number of records. All nan
        where one of the sets is empty.

    Raises:
        ValueError: values are not finite.

    >>> unpaired_difference([1.0, 1.0, 1.0], [0.25, 0.25])
    Estimate(mean=0.75, low=0.75, high=0.75, n=2)
    """
    first, second = _finite_vector(a), _finite_vector(b)
    n = min(first.size, second.size)
    if n == 0:
        return Estimate(float("nan"), float("nan"), float("nan"), 0)
    (means,) = resampled_means([first], resamples, seed)
    (others,) = resampled_means([second], resamples, seed + 1)
    low, high = percentile_interval(means - others)
    return Estimate(float(first.mean() - second.mean()), low, high, n)


def resampled_means(arrays: Sequence[Floats], resamples: int, seed: int) -> Floats:
    """Means of `resamples` draws with replacement of vectors of one length, (k, resamples).

    What is drawn depends on `seed` and the length alone, so all vectors are drawn alike.
    """
    rng = np.random.default_rng(seed)
    size = arrays[0].size
    block = max(1, BLOCK_ELEMENTS // size)
    means = np.empty((len(arrays), resamples))
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        drawn = rng.integers(0, size, size=(stop - start, size))  # (block, n)
        for row, array in enumerate(arrays):
            means[row, start:stop] = array[drawn].mean(axis=1)
    return means


def percentile_interval(means: Floats, level: float = LEVEL) -> tuple[float, float]:
    """The quantiles of resampled means between which `level` of them lie."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _finite_vector(values: npt.ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not np.isfinite(array).all():
        raise ValueError(
            f"expected a vector of finite scores, got shape {array.shape} with "
            f"{int((~np.isfinite(array)).sum())} values that are not finite"
        )
    return array
