"""A layer of MEND's networks: autograd's gradients of its formula, and no copy of its matrices."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.memory import peak_bytes
from editors.mend.config import MendOptions
from editors.mend.transform import LRLinear
from tests.builders import MEND_OPTIONS

N_MODES, N_TOKENS = 3, 7


def make_layer(n_modes: int | None, init: str = "id", dim: int = 12, rank: int = 5) -> LRLinear:
    torch.manual_seed(3)
    options = MendOptions.model_validate({**MEND_OPTIONS, "init": init, "rank": rank})
    layer = LRLinear(dim, options, n_modes)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def formula(layer: LRLinear, z: Tensor, mode: int | None) -> Tensor:
    h = z @ layer.v.mT @ layer.u.mT + layer.bias
    if mode is not None:
        assert layer.scale is not None
        assert layer.shift is not None
        h = layer.scale[mode] * h + layer.shift[mode]
    return h.clamp(min=0) + z * layer.skip


def gradients(layer: LRLinear, z: Tensor, modes: list[int | None], of: object) -> list[Tensor]:
    """Of everything, of a sum over matrices that share the layer."""
    torch.manual_seed(4)
    answers = [of(layer, z, mode) for mode in modes]  # type: ignore[operator]
    loss = sum((answer * torch.randn_like(answer)).sum() for answer in answers)
    assert isinstance(loss, Tensor)
    return list(torch.autograd.grad(loss, [z, *layer.parameters()]))


@pytest.mark.parametrize("init", ["id", "xavier"])
@pytest.mark.parametrize("n_modes", [None, N_MODES])
def test_a_layer_and_its_gradients_are_those_of_the_formula(init: str, n_modes: int | None) -> None:
    layer = make_layer(n_modes, init).double()
    z = torch.randn(N_TOKENS, 12, dtype=torch.float64, requires_grad=True)
    modes: list[int | None] = [None] if n_modes is None else [0, 2]
    for mode in modes:
        torch.testing.assert_close(layer(z, mode), formula(layer, z, mode))
    ours = gradients(layer, z, modes, lambda layer, z, mode: layer(z, mode))
    for one, other in zip(ours, gradients(layer, z, modes, formula), strict=True):
        torch.testing.assert_close(one, other)


def test_under_mixed_precision_the_products_of_the_pass_backward_are_mixed_too() -> None:
    layer, z = make_layer(N_MODES), torch.randn(N_TOKENS, 12, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        moved = layer(z, 1)
    assert moved.dtype == torch.float32
    moved.sum().backward()  # outside, as Lightning does it
    of_v = layer.v.grad
    assert of_v is not None
    assert of_v.dtype == torch.float32
    torch.testing.assert_close(of_v, of_v.bfloat16().float(), rtol=0, atol=0)
    of_z, exact = z.grad, torch.autograd.grad(formula(layer, z, 1).sum(), z)[0]
    assert of_z is not None
    torch.testing.assert_close(of_z, exact, rtol=0.05, atol=0.05)


def test_matrices_that_share_a_network_keep_no_copies_of_it() -> None:
    layer, z = make_layer(N_MODES, dim=256, rank=128), torch.randn(2, 256)
    with peak_bytes() as peak:
        moved = [layer(z, mode) for mode in (0, 1, 2, 0, 1, 2)]
    assert len(moved) == 6
    assert peak.bytes < layer.u.nbytes
