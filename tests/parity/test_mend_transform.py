"""The gradient transform and its statistics against vectors from the authors' MEND code."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from editors.mend.transform import GradientTransform, surviving
from tests.builders import GOLDEN

pytestmark = pytest.mark.parity
FILES = sorted(GOLDEN.glob("mend_transform*.npz"))
CASES = {
    "combine": {},
    "combine_h2": {"n_hidden": 2},
    "combine_h0": {"n_hidden": 0},
    "split": {"combine": False},
    "onesided": {"combine": False, "sides": "smaller"},
    "xonly": {"combine": False, "sides": "x"},
    "deltaonly": {"combine": False, "sides": "delta"},
    "nonorm": {"normalise": False},
    "xavier": {"init": "xavier"},
}
NETS = {"mlp": "mlp", "mlp1": "mlp_x", "mlp2": "mlp_delta"}


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Tensor]:
    with np.load(request.param) as arrays:
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def test_vectors_are_there() -> None:
    assert FILES, f"no mend_transform*.npz in {GOLDEN}; set TMKE_GOLDEN"


def tolerance(golden: dict[str, Tensor]) -> float:
    return 1e-9 if golden["u"].dtype == torch.float64 else 1e-5


def assert_close(ours: Tensor, theirs: Tensor, relative: float) -> None:
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() <= relative * theirs.abs().max()


def transform(golden: dict[str, Tensor], case: str, **options: object) -> GradientTransform:
    """Our network with the original's weights."""
    ours = GradientTransform(6, 4, n_modes=3, rank=4, **options).to(golden["u"].dtype)
    state = {}
    for name, value in golden.items():
        if name.startswith(f"{case}.w."):
            net, _, layer, *rest = name.removeprefix(f"{case}.w.").split(".")
            parameter = rest[0].removeprefix("mode_")
            state[f"{NETS[net]}.layers.{layer}.{parameter}"] = value
    loaded = ours.load_state_dict(state, strict=False)
    assert state
    assert not loaded.unexpected_keys
    assert all(name.startswith("statistics") for name in loaded.missing_keys)
    return ours


def freeze_statistics(ours: GradientTransform, golden: dict[str, Tensor]) -> None:
    if ours.statistics is not None:
        ours.statistics.count.fill_(3)
        ours.statistics.mean.copy_(torch.cat([golden["u_mean"], golden["v_mean"]]))
        deviation = torch.cat([golden["u_std"], golden["v_std"]])
        ours.statistics.squares.copy_(deviation.square() * 2)


def tokens(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    alive = surviving(u, v)
    return u[alive], v[alive]


@pytest.mark.parametrize("mode", [None, 0, 1, 2])
@pytest.mark.parametrize("case", CASES)
def test_every_variant(golden: dict[str, Tensor], case: str, mode: int | None) -> None:
    ours = transform(golden, case, **CASES[case]).eval()
    freeze_statistics(ours, golden)
    x, delta = ours(*tokens(golden["u"], golden["v"]), mode)
    suffix, relative = f"mode{str(mode).lower()}", tolerance(golden)
    assert_close(x, golden[f"{case}.out_u.{suffix}"], relative)
    assert_close(delta, golden[f"{case}.out_v.{suffix}"], relative)
    assert_close(delta.mT @ x, golden[f"{case}.grad_linear.{suffix}"], relative)
    assert_close(x.mT @ delta, golden[f"{case}.grad_conv1d.{suffix}"], relative)


def test_fresh_network_is_the_identity(golden: dict[str, Tensor]) -> None:
    ours = transform(golden, "fresh").eval()
    freeze_statistics(ours, golden)
    x, delta = ours(*tokens(golden["u"], golden["v"]), 1)
    assert_close(x, golden["fresh.out_u.mode1"], tolerance(golden))
    assert_close(delta, golden["fresh.out_v.mode1"], tolerance(golden))


def test_training_calls_grow_the_statistics(golden: dict[str, Tensor]) -> None:
    ours, relative = transform(golden, "train").train(), tolerance(golden)
    for call in range(3):
        theirs = {
            name.removeprefix(f"train.call{call}."): value
            for name, value in golden.items()
            if name.startswith(f"train.call{call}.")
        }
        x, delta = ours(*tokens(theirs["u"], theirs["v"]), call)
        assert_close(x, theirs["out_u"], relative)
        assert_close(delta, theirs["out_v"], relative)
        assert ours.statistics is not None
        assert int(ours.statistics.count) == int(theirs["k"])
        for ours_now, name in (
            (ours.statistics.mean, "mean"),
            (ours.statistics.squares, "s"),
            (ours.statistics.std, "std"),
        ):
            assert_close(ours_now, torch.cat([theirs[f"u_{name}"], theirs[f"v_{name}"]]), relative)
    ours.eval()
    x, delta = ours(*tokens(golden["u"], golden["v"]), 0)
    assert_close(x, golden["train.eval_after.out_u"], relative)
    assert_close(delta, golden["train.eval_after.out_v"], relative)
