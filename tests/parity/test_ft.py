"""Our batched Adam against fine-tuning trajectories from the authors' ROME code.

That FT is a variant that the project does not offer (its loss reads every target token at the
prompt's last position, and it trains the bias of GPT-2), so the vectors judge `descend` alone: the
unconstrained case, 25 steps. The constrained one clips the weights after each step.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from editors.descent import descend
from tests.builders import GOLDEN
from tests.parity.test_mend_edit import base_model

pytestmark = pytest.mark.parity
FILES = sorted(GOLDEN.glob("ft_*.npz"))


def test_vectors_are_there() -> None:
    assert FILES, f"no ft_*.npz in {GOLDEN}; set TMKE_GOLDEN"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_unconstrained_trajectory(path: object) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    options = json.loads(str(arrays["unconstr.hparams_json"]))
    weights = {
        name.removeprefix("model."): torch.from_numpy(value)
        for name, value in arrays.items()
        if name.startswith("model.")
    }
    model: nn.Module = base_model(weights).eval().requires_grad_(False)
    prefix = "unconstr.delta."
    names = [name.removeprefix(prefix) for name in arrays if name.startswith(prefix)]
    base = [model.get_parameter(name) for name in names]
    trace: list[float] = []

    def judge(deltas: Sequence[Tensor], at_work: Tensor) -> tuple[Tensor, Tensor]:
        losses = []
        for problem in at_work.tolist():
            parts = zip(names, base, deltas, strict=True)
            changed = {name: weight + delta[problem] for name, weight, delta in parts}
            logits = functional_call(
                model,
                changed,
                kwargs={
                    "input_ids": torch.from_numpy(arrays["input_ids"]),
                    "attention_mask": torch.from_numpy(arrays["attention_mask"]),
                },
            ).logits
            last = int(arrays["attention_mask"].sum()) - 1
            log_p = logits[0, last].log_softmax(-1)
            losses.append(-log_p[torch.from_numpy(arrays["target_ids"][0])].mean())
        trace.append(float(losses[0].detach()))
        return torch.stack(losses), torch.zeros(len(losses), dtype=torch.bool)

    deltas = descend(
        base,
        2,  # two equal problems side by side
        judge,
        steps=options["num_steps"],
        lr=options["lr"],
        weight_decay=options["weight_decay"],
        decoupled=False,
    )
    np.testing.assert_allclose(trace, arrays["unconstr.losses"], rtol=1e-4)
    for name, delta in zip(names, deltas, strict=True):
        theirs = torch.from_numpy(arrays[f"{prefix}{name}"])
        for problem in delta:
            assert (problem - theirs).abs().max() <= 1e-4 * theirs.abs().max(), name
