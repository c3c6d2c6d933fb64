"""The training module of MEND inside a real Trainer."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from editors import checkpoint as identity
from editors.mend.config import MendOptions
from editors.mend.editor import build
from editors.objective import Objective
from errors import ConfigError, ModelError
from lightning_modules.editor_training import COSINE_FLOOR, cosine
from lightning_modules.mend import MendTraining
from models.editable import EditableModel
from models.rows import EditBatch
from models.sites import Role
from tests.builders import MEND_OPTIONS, any_model, edit_batch, inputs
from tests.editors import mend

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)

OPTIONS: dict[str, Any] = MEND_OPTIONS | {
    "lr": 1e-2,
    "weights": MEND_OPTIONS["weights"] | {"generality": 1.0},
}


def options(**changed: object) -> MendOptions:
    return MendOptions.model_validate(OPTIONS | changed)


def training(model: EditableModel, **changed: object) -> MendTraining:
    torch.manual_seed(11)
    chosen = options(**changed)
    scenario = "multimodal" if model.family == "llava" else "unimodal"
    objective = Objective(chosen.questions_for(scenario), chosen.weights.model_dump())
    return MendTraining(chosen, model, inputs(), objective)


def loader(numbers: Sequence[int], size: int, *, pictures: bool) -> DataLoader[EditBatch]:
    batches = [
        edit_batch(numbers[start : start + size], pictures=pictures)
        for start in range(0, len(numbers), size)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


def fit(
    module: MendTraining,
    *,
    steps: int,
    folder: Path,
    ckpt_path: str | None = None,
    numbers: Sequence[int] = range(8),
    judged: Sequence[int] = (30, 31, 32),
    **arguments: Any,
) -> L.Trainer:
    pictures = module.model.family == "llava"
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        default_root_dir=str(folder),
        check_val_every_n_epoch=1,
        **arguments,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(
            module,
            loader(list(numbers), 2, pictures=pictures),
            loader(list(judged), 2, pictures=pictures),
            ckpt_path=ckpt_path,
        )
    return trainer


@pytest.mark.parametrize(
    ("kind", "matrices"),
    [("llava", ["mlp_in", "mlp_out"]), ("opt", ["mlp_in", "mlp_out"]), ("llava", ["key", "value"])],
)
def test_training_lowers_the_outer_loss(kind: str, matrices: list[Role], tmp_path: Path) -> None:
    model = any_model(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    module = training(model, matrices=matrices)
    # random prompts have nothing in common, so the editor is judged on what it was trained on
    seen = {"folder": tmp_path, "numbers": range(8), "judged": range(8)}
    first = float(fit(module, steps=4, **seen).callback_metrics["val/loss"])
    logged = fit(module, steps=60, **seen).callback_metrics
    assert float(logged["val/loss"]) < first - 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    common = {"train/loss", "train/grad_norm", "train/generality/loss", "val/loss",
              "val/reliability", "val/generality", "val/generality/loss"}  # fmt: skip
    assert common | {f"train/edit_lr/2_{role}" for role in matrices} <= logged.keys()
    assert ("val/locality_i" if kind == "llava" else "val/locality") in logged
    assert 0 <= float(logged["val/reliability"]) <= 1


def test_validation_averages_over_edits_and_leaves_the_statistics(tmp_path: Path) -> None:
    model = any_model("opt")
    module = training(model)
    logged = fit(module, steps=4, folder=tmp_path).callback_metrics
    module.eval()
    values, hops = [], []
    for number in (30, 31, 32):
        batch = edit_batch([number])
        state = model.prefix(batch.rows, 1)
        edit = module.editor.edit(model, batch, state)
        loss = module.objective(model, edit, batch, state)
        values.append({name: float(value.detach()) for name, value in loss.terms.items()})
        hops += [float(loss.terms["portability"].detach())] if "portability" in loss.terms else []
    for name in ("generality", "locality"):
        expected = sum(value[name] for value in values) / 3
        assert float(logged[f"val/{name}/loss"]) == pytest.approx(expected, rel=1e-4)
    assert len(hops) == 2
    assert float(logged["val/portability/loss"]) == pytest.approx(sum(hops) / 2, rel=1e-4)


def test_step_sizes_have_their_own_rate(tmp_path: Path) -> None:
    module = training(any_model("opt"), lr=1e-9, lr_of_edit_lr=1e-3)
    before = {name: p.detach().clone() for name, p in module.editor.named_parameters()}
    fit(module, steps=1, folder=tmp_path)
    for name, parameter in module.editor.named_parameters():
        moved = float((parameter.detach() - before[name]).abs().max())
        assert moved == pytest.approx(1e-3, rel=1e-3) if name == "edit_lr" else moved < 1e-7
    groups = module.configure_optimizers().param_groups
    assert [len(group["params"]) for group in groups][1] == 1
    assert sum(len(group["params"]) for group in groups) == len(before)


def test_checkpoints_hold_the_editor_only_and_load_safely(tmp_path: Path) -> None:
    model = any_model("llava")
    module = training(model)
    trainer = fit(module, steps=4, folder=tmp_path)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    assert all(name.startswith("editor.") for name in checkpoint["state_dict"])
    found = identity.editor_options(checkpoint)
    editor = build(MendOptions.model_validate(found), model, inputs())
    identity.load_editor(editor, checkpoint, model)
    assert not editor.training
    own = module.editor.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in editor.state_dict().items())


def test_resuming_goes_on_exactly(tmp_path: Path) -> None:
    straight = training(any_model("opt"), lr_schedule="cosine")
    fit(straight, steps=8, folder=tmp_path)
    first = training(any_model("opt"), lr_schedule="cosine")
    # the schedule knows its length from the trainer, so the first half is cut by a limit
    trainer = fit(first, steps=8, folder=tmp_path, numbers=range(8), limit_train_batches=4,
                  callbacks=[StopAfter(4)])  # fmt: skip
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert trainer.global_step == 4
    second = training(any_model("opt"), lr_schedule="cosine")
    fit(second, steps=8, folder=tmp_path, ckpt_path=str(tmp_path / "half.ckpt"))
    expected = straight.editor.state_dict()
    for name, value in second.editor.state_dict().items():
        torch.testing.assert_close(value, expected[name], msg=name)


class StopAfter(L.Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    model = any_model("opt")
    trainer = fit(training(model), steps=2, folder=tmp_path)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    checkpoint = torch.load(path, weights_only=True)
    other = any_model("opt", seed=9)
    with pytest.raises(ModelError, match="trained on a text base with fingerprint"):
        fit(training(other), steps=4, folder=tmp_path, ckpt_path=str(path))
    with pytest.raises(ModelError) as caught:
        identity.check(checkpoint, "serac", other)
    assert "holds the editor 'mend'" in str(caught.value)
    assert other.fingerprint() in str(caught.value)
    with pytest.raises(ModelError, match="does not say which editor"):
        identity.check({"state_dict": {}}, "mend", model)
    smaller = mend(model, layers=2, rank=4)
    with pytest.raises(ModelError, match=r"of another shape .* instead of"):
        identity.load_editor(smaller, checkpoint, model)
    fewer = {n: v for n, v in checkpoint["state_dict"].items() if not n.endswith("edit_lr")}
    with pytest.raises(ModelError, match=r"missing editor\.edit_lr"):
        training(model).load_state_dict({**fewer})
    with pytest.raises(ModelError, match=r"unexpected base\.weight"):
        training(model).load_state_dict({**checkpoint["state_dict"], "base.weight": torch.ones(1)})


def test_a_broken_loss_names_the_records(tmp_path: Path) -> None:
    module = training(any_model("opt"))
    with torch.no_grad():
        module.editor.edit_lr.fill_(float("inf"))
    with pytest.raises(ModelError, match=r"loss is not finite .* 0 \(subject 0\), 1 \(subject 1\)"):
        fit(module, steps=2, folder=tmp_path)


def test_a_broken_gradient_names_the_records(tmp_path: Path) -> None:
    module = training(any_model("opt"))
    module.editor.edit_lr.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not finite .* 3 \(subject 3\)\. Look"):
        fit(module, steps=2, folder=tmp_path, accumulate_grad_batches=2)


def test_half_precision_editors_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"trainer\.precision=bf16-true"):
        fit(training(any_model("opt")), steps=1, folder=tmp_path, precision="bf16-true")


def test_mixed_precision_trains(tmp_path: Path) -> None:
    module = training(any_model("llava"))
    logged = fit(module, steps=4, folder=tmp_path, precision="bf16-mixed").callback_metrics
    assert torch.isfinite(logged["val/loss"])
    assert module.editor.edit_lr.dtype == torch.float32


def test_cosine_schedule() -> None:
    schedule: dict[str, Any] = {"warmup": 20, "floor": COSINE_FLOOR}
    shares = [cosine(step, 80, **schedule) for step in range(81)]
    assert shares[0] == pytest.approx(1 / 20, rel=0.01)
    assert shares.index(max(shares)) in (18, 19, 20)
    assert shares[80] == pytest.approx(COSINE_FLOOR)
    assert all(after <= before for before, after in pairwise(shares[20:]))
    assert cosine(0, 1, warmup=1, floor=COSINE_FLOOR) == pytest.approx(1.0)
    assert cosine(200, 80, **schedule) == pytest.approx(COSINE_FLOOR)
    later = [cosine(step, 80, start=30, **schedule) for step in range(81)]
    assert later[:30] == [0.0] * 30
    assert later[49:] == shares[49:]
