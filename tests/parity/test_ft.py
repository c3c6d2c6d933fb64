"""Our batched Adam against fine-tuning trajectories from the authors' ROME code, free and clipped.

Their FT trains every parameter whose name holds the edited module's, on GPT-2 the bias too, so the
vectors judge `descend` and the projection of FT-L, not the editor, which edits matrices alone. Any
`ft*.npz` in TMKE_GOLDEN is tested, GPT-2 or Llama.
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

from editors.descent import descend
from editors.ft.editor import within
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

    def __call__(self, deltas: Sequence[Tensor], at_work: Tensor) -> tuple[Tensor, Tensor]:
        losses = torch.stack([self.loss([d[one] for d in deltas]) for one in range(len(at_work))])
        self.losses.append(float(losses[0].detach()))
        return losses, losses < STOP_LOSS

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
    deltas = descend(
        trajectory.base,
        PROBLEMS,
        trajectory,
        steps=options["num_steps"],
        lr=options["lr"],
        weight_decay=options["weight_decay"],
        decoupled=False,
        project=within(bound) if bound else None,
    )
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
