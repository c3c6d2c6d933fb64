"""Running moments: parts of any size, in any order, against all vectors at once."""

from __future__ import annotations

from functools import reduce

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from editors.moments import Moments

CLOSE = {"atol": 1e-12, "rtol": 1e-10}


def moments(values: torch.Tensor, *, pairs: bool) -> Moments:
    """Of one group without padding."""
    return Moments.of(values[None], torch.ones(1, len(values), dtype=torch.bool), pairs=pairs)


@settings(max_examples=30, deadline=None)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=6), pairs=st.booleans(),
       seed=st.integers(0, 99))  # fmt: skip
def test_parts_give_the_moments_of_all(sizes: list[int], pairs: bool, seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    values = 5 + torch.randn(sum(sizes), 3, generator=draw, dtype=torch.float64)
    parts = [moments(part, pairs=pairs) for part in values.split(sizes)]
    for order in (parts, parts[::-1]):
        merged = reduce(Moments.merged, order)
        assert merged.count.tolist() == [len(values)]
        if len(values) > 1:
            torch.testing.assert_close(merged.mean[0], values.mean(0), **CLOSE)
            torch.testing.assert_close(merged.std[0], values.std(0), **CLOSE)
            scatter = merged.scatter[0] / (len(values) - 1)
            expected = torch.cov(values.T) if pairs else values.var(0)
            torch.testing.assert_close(scatter, expected, **CLOSE)


@pytest.mark.parametrize("pairs", [False, True])
def test_groups_side_by_side_are_each_their_own(pairs: bool) -> None:
    draw = torch.Generator().manual_seed(1)
    values = torch.randn(3, 4, 2, generator=draw, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    before = moments(torch.randn(5, 2, generator=draw, dtype=torch.float64), pairs=pairs)
    together = before.merged(
        Moments.of(values.masked_fill(~mask[..., None], 7.0), mask, pairs=pairs)
    )
    assert together.count.tolist() == [9, 7, 5]
    for group in range(3):
        alone = before.merged(moments(values[group][mask[group]], pairs=pairs))
        torch.testing.assert_close(together.mean[group], alone.mean[0], **CLOSE)
        torch.testing.assert_close(together.scatter[group], alone.scatter[0], **CLOSE)
        torch.testing.assert_close(together.std[group], alone.std[0], **CLOSE)


def test_pairs_hold_what_coordinates_hold() -> None:
    values = torch.randn(6, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    pairs, each = moments(values, pairs=True), moments(values, pairs=False)
    assert (pairs.has_pairs, each.has_pairs) == (True, False)
    torch.testing.assert_close(pairs.of_coordinates().scatter, each.scatter, **CLOSE)
    assert each.of_coordinates() is each
