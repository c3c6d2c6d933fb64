"""How much two sets of numbered things have in common, beside what chance would give.

    jaccard(A, B) = |A & B| / |A | B|          share(A, B) = |A & B| / |A|

Two levels say what a value is worth. `chance`: the expectation for random sets of these sizes among
all things; then k = |A & B| is hypergeometric, and with a = |A|, b = |B| of n things

    E jaccard = sum_k k / (a + b - k) C(b, k) C(n - b, a - k) / C(n, a)          E share = b / n

`unrelated`: the mean of the same measure between A and the second sets of other records, those of
another subject. Things that every record uses make it larger than chance.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Overlaps:
    """One value per record as a fraction, nan where there is none: each (n,).

    Attributes:
        jaccard: none where a set is missing or both are empty.
        share: of A in B; none where a set is missing or A is empty.
        chance_jaccard: expectation for random sets of these sizes.
        chance_share: the same.
        unrelated_jaccard: mean with the second sets of records about another subject.
        unrelated_share: the same.
    """

    jaccard: Floats
    share: Floats
    chance_jaccard: Floats
    chance_share: Floats
    unrelated_jaccard: Floats
    unrelated_share: Floats

    def of(self, record: int) -> dict[str, float | None]:
        """The values of one record, None where there is none."""
        values = {field.name: float(getattr(self, field.name)[record]) for field in fields(self)}
        return {name: None if math.isnan(value) else value for name, value in values.items()}


def overlaps(
    a: Sequence[Ids | None], b: Sequence[Ids | None], *, subjects: Sequence[str], n: int
) -> Overlaps:
    """Overlap of two sets for each record.

    Args:
        a: the first sets of distinct numbers, below `n`; None where a record has none.
        b: the second ones, of the same records.
        subjects: of the records.
        n: how many things there are.

    Raises:
        ValueError: the lengths differ.

    >>> pair = overlaps([np.array([0, 1, 2])], [np.array([1, 2, 3])], subjects=["s"], n=10)
    >>> pair.of(0)["jaccard"], pair.of(0)["unrelated_jaccard"]
    (0.5, None)
    """
    if not len(a) == len(b) == len(subjects):
        raise ValueError(f"expected sets of the same records, got {len(a)}, {len(b)} and subjects")
    table = _indicators([*a, *b])
    first, second = table[: len(a)], table[len(a) :]
    common = first @ second.T  # (n, n)
    of_a, of_b = first.sum(1)[:, None], second.sum(1)[None, :]
    has_a, has_b = (np.array([ids is not None for ids in sets], dtype=bool) for sets in (a, b))
    measured = has_a[:, None] & has_b[None, :]
    jaccard = _ratio(common, of_a + of_b - common, measured)
    share = _ratio(common, np.broadcast_to(of_a, common.shape), measured)
    chance = [
        math.nan if np.isnan(value) else expected_jaccard(int(sa), int(sb), n)
        for value, sa, sb in zip(jaccard.diagonal(), of_a[:, 0], of_b[0], strict=True)
    ]
    return Overlaps(
        jaccard=jaccard.diagonal().copy(),
        share=share.diagonal().copy(),
        chance_jaccard=np.array(chance, dtype=np.float64),
        chance_share=np.where(np.isnan(share.diagonal()), np.nan, of_b[0] / n),
        unrelated_jaccard=unrelated_mean(jaccard, subjects),
        unrelated_share=unrelated_mean(share, subjects),
    )


def expected_jaccard(a: int, b: int, n: int) -> float:
    """Expectation for two random sets of `a` and `b` of `n` things; nan where both are empty.

    Raises:
        ValueError: a set is larger than all there is.

    >>> expected_jaccard(1, 1, 4)
    0.25
    """
    if not (0 <= a <= n and 0 <= b <= n):
        raise ValueError(f"expected sets of at most {n} things, got {a} and {b}")
    if a + b == 0:
        return math.nan
    total = 0.0
    for k in range(max(0, a + b - n), min(a, b) + 1):
        log_p = _log_choose(b, k) + _log_choose(n - b, a - k) - _log_choose(n, a)
        total += k / (a + b - k) * math.exp(log_p)
    return round(total, 15)


def unrelated_mean(values: Floats, subjects: Sequence[str]) -> Floats:
    """Mean of each record's values with records about another subject, nan where there are none.

    Args:
        values: (n, n), record by record; nan is left out.
        subjects: (n,).

    Returns:
        (n,).
    """
    names = np.asarray(subjects, dtype=object)
    counted = (names[:, None] != names[None, :]) & ~np.isnan(values)
    number = counted.sum(1)
    total = np.where(counted, values, 0.0).sum(1)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def _indicators(sets: Sequence[Ids | None]) -> Floats:
    """The sets as rows of 0 and 1, over the things that occur in any."""
    present = [np.empty(0, np.int64) if ids is None else ids for ids in sets]
    things = np.unique(np.concatenate([np.empty(0, np.int64), *present]))
    table = np.zeros((len(present), len(things)))
    for row, ids in enumerate(present):
        table[row, np.searchsorted(things, ids)] = 1.0
    return table


def _ratio(above: Floats, below: Floats, measured: npt.NDArray[np.bool_]) -> Floats:
    ratio = np.full(above.shape, np.nan)
    np.divide(above, below, out=ratio, where=measured & (below > 0))
    return ratio


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
