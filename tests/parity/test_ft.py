"""Our Adam against fine-tuning trajectories from the authors' ROME code, free and clipped.

Their FT trains every parameter whose name holds the edited module's, on GPT-2 the bias too, so the
vectors judge how matrices move, FT-L's bound among it, and not the editor, which edits matrices
alone. Any `ft*.npz` in TMKE_GOLDEN is tested, GPT-2 or Llama.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from editors.ft.matrices import Matrices, Rule
from models.deltas import LowRankDelta
from tests.parity import vectors
from tests.parity.tiny_models import base_model

pytestmark = pytest.mark.parity
PATTERN = "ft*.npz"
PROBLEMS = 2  # equal ones, side by side
STOP_LOSS = 1e-2  # written into their loop


def test_vectors_are_there() -> None:
    vectors.assert_shipped(PATTERN)


class Trajectory:
    """The loss of the edit, and its value at every step."""

    def __init__(self, arrays: vectors.Vectors, case: str) -> None:
        weights = vectors.below(arrays, "model.")
        self.model: nn.Module = base_model(weights).requires_grad_(False)
        self.moved = vectors.below(arrays, f"{case}.delta.")
        self.base = [self.model.get_parameter(name) for name in self.moved]
        self.inputs = {
            name: torch.from_numpy(arrays[name]) for name in ("input_ids", "attention_mask")
        }
        self.target = torch.from_numpy(arrays["target_ids"])  # (R, n)
        self.losses: list[float] = []

    def __call__(self, moves: Sequence[Tensor]) -> tuple[list[Tensor], bool]:
        """Gradients at some moves of the parameters, and whether the edit is done."""
        leaves = [move.clone().requires_grad_(True) for move in moves]
        loss = self.loss(leaves)
        self.losses.append(float(loss.detach()))
        return list(torch.autograd.grad(loss, leaves)), self.losses[-1] < STOP_LOSS

    def loss(self, deltas: Sequence[Tensor]) -> Tensor:
        """NLL of all target tokens at the prompt's last position, mean over tokens and rows."""
        parts = zip(self.moved, self.base, deltas, strict=True)
        changed = {name: weight + delta for name, weight, delta in parts}
        logits = functional_call(self.model, changed, kwargs=self.inputs).logits
        last = self.inputs["attention_mask"].sum(1) - 1
        log_p = logits[torch.arange(len(last)), last].log_softmax(-1)
        return -log_p.gather(1, self.target).mean()


@pytest.mark.parametrize("path", vectors.parameters(PATTERN))
@pytest.mark.parametrize("case", ["unconstr", "constr"])
def test_trajectory(path: Path, case: str) -> None:
    arrays = vectors.load(path)
    options = json.loads(str(arrays[f"{case}.hparams_json"]))
    bound = options["norm_constraint"]
    assert isinstance(bound, float) == (case == "constr")
    trajectory = Trajectory(arrays, case)
    assert trajectory.moved
    rule = Rule(options["lr"], options["weight_decay"], bound=bound or None)
    # A bias is a matrix of one column.
    matrices = [Matrices(base.reshape(len(base), -1), PROBLEMS, rule) for base in trajectory.base]
    for _ in range(options["num_steps"]):
        moves = [
            of.moves[0].reshape(b.shape) for of, b in zip(matrices, trajectory.base, strict=True)
        ]
        gradients, done = trajectory(moves)
        if done:
            break
        for of, gradient in zip(matrices, gradients, strict=True):
            columns = gradient.reshape(len(gradient), -1)
            pairs = LowRankDelta(columns[None], torch.eye(len(columns), dtype=columns.dtype)[None])
            for problem in range(PROBLEMS):
                of.step(problem, pairs)
    deltas = [
        of.moves.reshape(-1, *b.shape) for of, b in zip(matrices, trajectory.base, strict=True)
    ]
    model = {name: value for name, value in arrays.items() if name.startswith("model.")}
    relative = vectors.tolerance(model, double=1e-6, single=1e-4)
    np.testing.assert_allclose(trajectory.losses, arrays[f"{case}.losses"], rtol=relative)
    for base, delta, (name, theirs) in zip(
        trajectory.base, deltas, trajectory.moved.items(), strict=True
    ):
        for problem in delta:
            # Theirs is the difference of two rounded weights.
            ours = base + problem - base
            vectors.assert_close(ours, theirs, relative, f"{case}.delta.{name}")
    if bound:
        largest = max(float(delta.abs().max()) for delta in deltas)
        assert largest <= bound * (1 + relative)
