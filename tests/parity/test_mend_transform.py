"""The gradient transform and its statistics against vectors from the authors' MEND code.

A file holds the weights and results of some variants of the network; its sizes, modes and number of
calls are read from the arrays. Any `mend_transform*.npz` in TMKE_GOLDEN is tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editors.gradients import surviving
from editors.mend.transform import GradientTransform, Sides
from tests.editors import editor_options
from tests.parity.vectors import assert_close, assert_shipped, below, load, parameters, tolerance

pytestmark = pytest.mark.parity
PATTERN = "mend_transform*.npz"
CASES: dict[str, dict[str, Any]] = {
    "combine": {},
    "combine_h2": {},
    "combine_h0": {},
    "split": {"combine": False},
    "onesided": {"combine": False, "sides": "smaller"},
    "xonly": {"combine": False, "sides": "x"},
    "deltaonly": {"combine": False, "sides": "delta"},
    "nonorm": {"normalise": False},
    "xavier": {"init": "xavier"},
}
NETS = {"mlp": "mlp", "mlp1": "mlp_x", "mlp2": "mlp_delta"}
RESULTS = ("out_u", "out_v", "grad_linear", "grad_conv1d")


class Golden:
    """A file's arrays, and our networks with its weights."""

    def __init__(self, path: Path) -> None:
        self.arrays = load(path)
        self.u, self.v = self["u"], self["v"]
        self.relative = tolerance(self.arrays)

    def __getitem__(self, name: str) -> Tensor:
        return torch.from_numpy(self.arrays[name])

    def transform(
        self, case: str, *, sides: Sides = "both", **options: object
    ) -> GradientTransform:
        """Our network of the sizes and weights of a case."""
        weights = below(self.arrays, f"{case}.w.")
        assert weights, f"{case}: the file has no weights"
        state = {}
        for name, value in weights.items():
            net, _, layer, *rest = name.split(".")
            state[f"{NETS[net]}.layers.{layer}.{rest[0].removeprefix('mode_')}"] = value
        layers = {name.split(".")[2] for name in weights}
        ours = GradientTransform(
            self.u.shape[-1],
            self.v.shape[-1],
            editor_options(
                "mend",
                # A net that is narrower than the rank has its own width instead.
                rank=max(len(value) for name, value in weights.items() if name.endswith(".v")),
                n_hidden=len(layers) - 1,
                **options,
            ),
            n_modes=next(len(v) for name, v in weights.items() if "mode_scale" in name),
            sides=sides,
        ).to(self.u.dtype)
        loaded = ours.load_state_dict(state, strict=False)
        assert not loaded.unexpected_keys
        assert all(name.startswith("statistics") for name in loaded.missing_keys)
        return ours

    def frozen(self, case: str, **options: Any) -> GradientTransform:
        """The same in eval mode, with the file's statistics."""
        ours = self.transform(case, **options).eval()
        if ours.statistics is not None:
            ours.statistics.count.fill_(2)  # then S is the square of the deviation
            ours.statistics.mean.copy_(torch.cat([self["u_mean"], self["v_mean"]]))
            ours.statistics.squares.copy_(torch.cat([self["u_std"], self["v_std"]]).square())
        return ours

    def calls(self) -> list[int]:
        """The numbers of the training calls."""
        names = (name.split(".")[1] for name in self.arrays if name.startswith("train.call"))
        return sorted({int(name.removeprefix("call")) for name in names})

    def check(self, name: str, ours: Tensor) -> None:
        assert_close(ours, self[name], self.relative, name)


@pytest.fixture(params=parameters(PATTERN))
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_vectors_are_there() -> None:
    assert_shipped(PATTERN)


def tokens(u: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    alive = surviving(u, v)
    return u[alive], v[alive]


@pytest.mark.parametrize("case", CASES)
def test_every_variant(golden: Golden, case: str) -> None:
    if not below(golden.arrays, f"{case}.w."):
        pytest.skip(f"this file has no case {case}")
    ours = golden.frozen(case, **CASES[case])
    modes = sorted(
        name.rpartition(".mode")[2] for name in golden.arrays if name.startswith(f"{case}.out_u.")
    )
    assert modes
    for mode in modes:
        number = None if mode == "none" else int(mode)
        x, delta = ours(*tokens(golden.u, golden.v), number)
        found = (x, delta, delta.mT @ x, x.mT @ delta)
        for result, value in zip(RESULTS, found, strict=True):
            golden.check(f"{case}.{result}.mode{mode}", value)


def test_a_variant_without_a_test_is_noticed(golden: Golden) -> None:
    named = {name.split(".")[0] for name in golden.arrays if ".w." in name}
    assert named <= {*CASES, "fresh", "train"}


def test_fresh_network_is_the_identity(golden: Golden) -> None:
    ours = golden.frozen("fresh")
    modes = [name for name in golden.arrays if name.startswith("fresh.out_u.mode")]
    assert modes
    for name in modes:
        mode = name.removeprefix("fresh.out_u.mode")
        x, delta = ours(*tokens(golden.u, golden.v), None if mode == "none" else int(mode))
        golden.check(name, x)
        golden.check(f"fresh.out_v.mode{mode}", delta)


def test_training_calls_grow_the_statistics(golden: Golden) -> None:
    ours = golden.transform("train").train()
    statistics = ours.statistics
    assert statistics is not None
    calls = golden.calls()
    assert calls
    for call in calls:  # the call's number is its mode
        name = f"train.call{call}"
        x, delta = ours(*tokens(golden[f"{name}.u"], golden[f"{name}.v"]), call)
        golden.check(f"{name}.out_u", x)
        golden.check(f"{name}.out_v", delta)
        assert int(statistics.count) == int(golden[f"{name}.k"])
        for value, kind in (
            (statistics.mean, "mean"), (statistics.squares, "s"), (statistics.std, "std"),
        ):  # fmt: skip
            of_u, of_v = value.split([golden.u.shape[-1], golden.v.shape[-1]])
            golden.check(f"{name}.u_{kind}", of_u)
            golden.check(f"{name}.v_{kind}", of_v)
    x, delta = ours.eval()(*tokens(golden.u, golden.v), 0)
    golden.check("train.eval_after.out_u", x)
    golden.check("train.eval_after.out_v", delta)
