"""Matrices under Adam and AdamW against torch's optimisers on the matrices themselves."""

from __future__ import annotations

import pytest
import torch

from editors.ft import matrices as module
from editors.ft.matrices import Matrices, Rule
from models.deltas import DenseDelta, LowRankDelta

D_OUT, D_IN, STEPS = 7, 5, 4
RULES = {
    "adam": Rule(0.05),
    "adamw": Rule(0.05, 0.1, decoupled=True),
    "decay in the gradient": Rule(0.05, 0.1),
    "bound": Rule(0.05, bound=0.08),
}


@pytest.mark.parametrize("rows_at_once", [2, D_OUT])
@pytest.mark.parametrize("name", RULES)
def test_a_matrix_moves_as_torch_s_optimiser_moves_it(
    name: str, rows_at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rule, draw = RULES[name], torch.Generator().manual_seed(0)
    monkeypatch.setattr(module, "CPU_BLOCK_BYTES", rows_at_once * D_IN * 8)
    weight = torch.randn(D_OUT, D_IN, generator=draw, dtype=torch.float64)
    ours = Matrices(weight, 3, rule)
    kind = torch.optim.AdamW if rule.decoupled else torch.optim.Adam
    theirs = [weight.clone().requires_grad_(True) for _ in range(2)]
    optimisers = [kind([one], lr=rule.lr, weight_decay=rule.weight_decay) for one in theirs]
    for step in range(STEPS):
        for edit, (one, optimiser) in enumerate(zip(theirs, optimisers, strict=True)):
            if edit == 1 and step >= STEPS - 1:  # done sooner
                ours.finish([edit])
                continue
            delta, x = (
                torch.randn(3, size, generator=draw, dtype=torch.float64) for size in (D_OUT, D_IN)
            )
            one.grad = delta.mT @ x
            optimiser.step()
            if rule.bound is not None:
                one.data = one.data.clamp(weight - rule.bound, weight + rule.bound)
            pairs = LowRankDelta(x[None], delta[None])
            ours.step(edit, pairs if edit else DenseDelta(pairs.dense()))
    for edit, one in enumerate(theirs):
        torch.testing.assert_close(weight + ours.moves[edit], one.detach(), rtol=0, atol=1e-12)
    assert not ours.moves[2].any()  # it took no step
    if rule.bound is not None:
        assert float(ours.moves.abs().max()) == rule.bound


def test_moves_of_a_half_precision_weight_are_in_float32() -> None:
    moved = Matrices(torch.ones(D_OUT, D_IN, dtype=torch.bfloat16), 1, Rule(1e-6))
    x, delta = torch.ones(1, 1, D_IN, dtype=torch.bfloat16), torch.ones(1, 1, D_OUT)
    moved.step(0, LowRankDelta(x, delta))
    assert moved.moves.dtype == torch.float32
    torch.testing.assert_close(moved.moves, torch.full_like(moved.moves, -1e-6))
