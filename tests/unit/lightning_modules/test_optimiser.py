"""Adam of the trained editors: fused, with the numbers of torch's plain one."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.optim import Adam

from lightning_modules.editor_training import EditorTraining
from models.editable import EditableModel
from tests.serac_cases import picture_model
from tests.unit.editors.test_half_precision import mend_training, serac_training

STEPS = 20


def optimiser(module: EditorTraining, scaler: object, monkeypatch: pytest.MonkeyPatch) -> Adam:
    trainer: Any = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=scaler))
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
    fused = optimiser(module, None, monkeypatch)
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
def test_gradients_that_a_scaler_unscales_are_still_clipped(
    build: Callable[[EditableModel], EditorTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning refuses `editor.grad_clip` under 16-mixed where the optimiser is fused."""
    module = build(picture_model())
    plain = optimiser(module, None, monkeypatch)
    assert getattr(plain, "_step_supports_amp_scaling", False)
    scaled = optimiser(module, object(), monkeypatch)
    assert not getattr(scaled, "_step_supports_amp_scaling", False)
