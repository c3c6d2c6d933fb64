"""Adam of the trained editors: fused, with the numbers of torch's plain one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from torch.nn.utils import get_total_norm
from torch.optim import Adam

from lightning_modules.editor_training import EditorTraining
from models.editable import EditableModel
from tests.serac_cases import picture_model
from tests.unit.editors.test_half_precision import mend_training, serac_training

STEPS = 20


def optimiser(
    module: EditorTraining, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> Adam:
    trainer: Any = SimpleNamespace(precision_plugin=precision)
    monkeypatch.setattr(type(module), "trainer", trainer)
    monkeypatch.setattr(module, "scheduled", lambda adam: adam)
    adam = module.configure_optimizers()
    assert isinstance(adam, Adam)
    return adam


@pytest.mark.parametrize("build", [mend_training, serac_training])
def test_a_fused_step_is_adam_s(
    build: Callable[[EditableModel], EditorTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build(picture_model())
    fused = optimiser(module, Precision(), monkeypatch)
    assert fused.defaults["fused"] is True
    groups = [
        {"params": [p.detach().double() for p in group["params"]], "lr": group["lr"]}
        for group in fused.param_groups
    ]
    plain = Adam(groups, fused=False)  # in twice the digits
    draw = torch.Generator().manual_seed(0)
    for _ in range(STEPS):
        for ours, theirs in zip(fused.param_groups, plain.param_groups, strict=True):
            for p, q in zip(ours["params"], theirs["params"], strict=True):
                p.grad = torch.randn(p.shape, generator=draw)
                q.grad = p.grad.double()
        fused.step()
        plain.step()
    for ours, theirs in zip(fused.param_groups, plain.param_groups, strict=True):
        for p, q in zip(ours["params"], theirs["params"], strict=True):
            torch.testing.assert_close(p.double(), q, rtol=1e-6, atol=1e-6 * ours["lr"] * STEPS)


@pytest.mark.parametrize("build", [mend_training, serac_training])
@pytest.mark.parametrize("kind", ["32-true", "bf16-mixed", "16-mixed"])
def test_gradients_are_clipped_under_every_precision(
    kind: Any, build: Callable[[EditableModel], EditorTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning refuses to clip for a fused optimiser under both kinds of mixed precision."""
    module, precision = build(picture_model()), Precision()
    if kind != "32-true":
        scaler = torch.amp.GradScaler("cpu", enabled=False) if kind == "16-mixed" else None
        precision = MixedPrecision(kind, "cpu", scaler)
    adam = optimiser(module, precision, monkeypatch)
    weights = [p for group in adam.param_groups for p in group["params"]]
    for p in weights:
        p.grad = torch.ones_like(p)
    precision.clip_gradients(adam, 0.5)
    assert float(get_total_norm([p.grad for p in weights])) == pytest.approx(0.5, rel=1e-4)
