"""Where the parts of an evaluation and of a training lie, before and after Lightning's teardown."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchmetrics import Metric

from datamodules.scenarios import SCENARIOS
from editors.mend.config import MendOptions
from editors.objective import Objective
from lightning_modules.editor_training import EditorTraining
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.mend import MendTraining
from lightning_modules.serac import SeracTraining
from tests import serac_cases
from tests.builders import MEND_OPTIONS, any_model, inputs
from tests.serac_cases import picture_model, stirred, worded_batch


def evaluation() -> EvaluationModule:
    model = picture_model()
    editor = stirred(model)
    return EvaluationModule(model, editor, SCENARIOS["transitive"], editor.encoder)


def weights(editor: object) -> nn.Module:
    assert isinstance(editor, nn.Module)
    return editor


def training(name: str) -> EditorTraining:
    if name == "mend":
        mend = MendOptions.model_validate(MEND_OPTIONS)
        terms = Objective("text", mend.weights.model_dump())
        return MendTraining(mend, any_model("opt"), inputs(), terms)
    serac = serac_cases.options(objective="mixture")
    terms = Objective("text", serac.weights.model_dump())
    return SeracTraining(serac, serac_cases.opt_model(), serac_cases.inputs(), terms)


def test_model_and_editor_stay_on_their_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning moved all that it knew of to the CPU after the last batch."""
    module, moved = evaluation(), []
    apply = nn.Module._apply

    def recorded(self: nn.Module, fn: Any, recurse: bool = True) -> nn.Module:
        if hasattr(module, "outcome"):
            moved.append(self)
        return apply(self, fn, recurse)

    monkeypatch.setattr(nn.Module, "_apply", recorded)
    trainer = L.Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False,
        enable_checkpointing=False, inference_mode=False,
    )  # fmt: skip
    batches: Any = [worded_batch((1,), pictures=True)]
    trainer.test(module, DataLoader(batches, batch_size=None), verbose=False)
    assert module.scored.scores in moved, "the teardown was not seen"
    heavy = {*module.model.modules(), *weights(module.editor).modules()}
    assert not heavy & set(moved)
    assert module.outcome.lines


def test_an_editor_with_dropout_is_judged_without_it() -> None:
    module = evaluation()
    editor = weights(module.editor)
    editor.train()
    module.trainer = L.Trainer(accelerator="cpu", devices=1, logger=False)
    module.setup("test")
    assert not any(part.training for part in editor.modules())


@pytest.mark.parametrize("name", ["evaluation", "mend", "serac"])
def test_what_is_gathered_lies_on_the_device(name: str) -> None:
    """NCCL takes tensors of a GPU alone; `meta` stands for one."""
    module: Any = evaluation() if name == "evaluation" else training(name)
    module.to("meta")
    metrics = [part for part in module.modules() if isinstance(part, Metric)]
    assert metrics
    states = [getattr(metric, state) for metric in metrics for state in metric._defaults]
    tensors = [t for state in states for t in (state if isinstance(state, list) else [state])]
    tensors += module.buffers()
    assert all(isinstance(t, Tensor) and t.device.type == "meta" for t in tensors)
    assert next(module.model.parameters()).device == torch.device("cpu")
