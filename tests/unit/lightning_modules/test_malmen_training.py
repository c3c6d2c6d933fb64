"""The training of MALMEN: its decoupled gradient, and a real Trainer around it."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from torch.utils.data import DataLoader

from editors import checkpoint as identity
from editors.base import DeltaEdit
from editors.gradients import EditTokens
from editors.malmen.config import MalmenOptions
from editors.malmen.editor import build
from errors import ConfigError, ModelError
from lightning_modules.decoupled import DecoupledUpdate
from lightning_modules.malmen import MalmenTraining
from models.budget import MemoryBudget
from models.deltas import DenseDelta, LowRankDelta, linear_shape
from models.editable import EditableModel, PrefixState
from models.parts import split_edits
from models.rows import Answers, EditBatch
from tests.builders import any_model, edit_batch, inputs
from tests.malmen_cases import (
    malmen_options,
    slow_gradients,
    stirred_training,
    trained_malmen,
)

pytestmark = pytest.mark.usefixtures("float64")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def training(model: EditableModel, **changed: Any) -> MalmenTraining:
    return stirred_training(MalmenTraining, malmen_options(**changed), model)


def step(module: MalmenTraining, batch: EditBatch) -> dict[str, torch.Tensor]:
    """The gradients of a training step, as Lightning takes it; the loss under its name."""
    module.trainer = L.Trainer(accelerator="cpu", devices=1, logger=False)
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    loss = module.train().training_step(batch, 0)
    (3 * loss).backward()  # a scaler's factor, say
    gradients = {
        name: p.grad / 3 for name, p in module.editor.named_parameters() if p.grad is not None
    }
    return {**gradients, "loss": loss.detach()}


def test_a_first_update_of_one_token_is_refused_with_what_to_do() -> None:
    model, batch = any_model("opt").double(), edit_batch((0,))
    mask, row = batch.rows.answer_mask.clone(), batch.edit_rows[0]
    mask[row] &= mask[row].cumsum(0) == 1
    batch = replace(batch, rows=replace(batch.rows, answer_mask=mask))
    module = MalmenTraining(
        malmen_options(layers=1, matrices=["mlp_out"], n_edits=1), model, inputs(),
        training(model).objective,
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"has one answer token.*editor\.n_edits=2 or more"):
        step(module, batch)


@pytest.mark.parametrize(
    ("kind", "numbers", "changed"),
    [
        ("opt", (3, 8, 5), {}),
        ("opt", (3, 8, 5), {"batch_size": 1, "net_batch": 1}),
        ("gpt2", (3, 8, 5), {"batch_size": 8, "net_batch": 64}),
        ("opt", (*range(10), 12, 14), {"net_batch": 4}),
        ("llava", (1, 2, 4), {"weights": {"image": 0.3}}),
        ("llama", (1, 2), {"matrices": ["mlp_gate"], "layers": 3, "n_blocks": 1}),
    ],
)
def test_decoupled_gradients_are_those_of_one_graph(
    kind: str, numbers: tuple[int, ...], changed: dict[str, Any]
) -> None:
    model = any_model(kind).double()
    batch = edit_batch(numbers, pictures=kind == "llava")
    module = training(model, **changed)
    got = step(module, batch)
    loss, expected = slow_gradients(module.editor, model, batch, module.objective)
    assert float(got["loss"]) == pytest.approx(float(loss.detach()), rel=1e-7)
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 0, name
        assert (got[name] - gradient).abs().max() <= 1e-6 * scale, name


def test_updates_of_the_parity_test_are_of_both_forms() -> None:
    model = any_model("opt").double()
    for numbers, form in (((3, 8, 5), LowRankDelta), ((*range(10), 12, 14), DenseDelta)):
        made = training(model).make_update(split_edits(edit_batch(numbers), 4))
        assert {type(delta) for delta in made.edit.deltas.values()} == {form}


def loader(numbers: Sequence[int], size: int, *, pictures: bool) -> DataLoader[EditBatch]:
    batches = [
        edit_batch(numbers[start : start + size], pictures=pictures)
        for start in range(0, len(numbers), size)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class StopAfter(L.Callback):
    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        trainer.should_stop = trainer.global_step >= self.steps


def fit(
    module: MalmenTraining,
    *,
    steps: int,
    folder: Path,
    ckpt_path: str | None = None,
    numbers: Sequence[int] = range(16),
    **arguments: Any,
) -> L.Trainer:
    pictures = module.model.family == "llava"
    trainer = L.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
        default_root_dir=str(folder), gradient_clip_val=module.options.grad_clip,
        **{"check_val_every_n_epoch": 1, **arguments},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(
            module,
            loader(list(numbers), 4, pictures=pictures),
            loader(range(30, 36), 4, pictures=pictures),
            ckpt_path=ckpt_path,
            weights_only=True,
        )
    return trainer


@pytest.mark.parametrize("kind", ["opt", "llava"])
def test_training_improves_and_leaves_the_base_alone(kind: str, tmp_path: Path) -> None:
    model = any_model(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    judged = range(30, 34)  # random edits teach nothing of others
    first, logged = (
        fit(training(model, edit_lr=1e-3), steps=steps, folder=tmp_path, numbers=judged,
            check_val_every_n_epoch=steps).callback_metrics
        for steps in (1, 12)
    )  # fmt: skip
    assert float(logged["val/loss"]) < float(first["val/loss"]) - 0.05
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    expected = {"train/loss", "train/grad_norm", "train/edit_lr/2_mlp_in", "train/ridge/2_mlp_in",
                "train/generality/loss", "val/loss", "val/reliability", "val/generality",
                "val/generality/loss"}  # fmt: skip
    assert expected <= logged.keys()
    assert 0 <= float(logged["val/reliability"]) <= 1


def test_validation_judges_whole_updates(tmp_path: Path) -> None:
    """Of 4 edits and of 2: means over edits and rows, and the statistics stay."""
    model = any_model("opt")
    module = training(model)
    logged = fit(module, steps=4, folder=tmp_path).callback_metrics
    module.eval()
    sums = {"loss": 0.0, "reliability": 0.0, "portability": 0.0}
    hops = 0
    for batch in (edit_batch(range(30, 34)), edit_batch(range(34, 36))):
        edit = module.editor.edit_together(model, module.turn([batch]))
        state = model.prefix(batch.rows, 1)
        batch.rows.edit_index.zero_()
        loss = module.objective(model, edit, batch, state)
        at = batch.rows.answers()
        right = edit.answer(model, batch.rows, state, at).argmax(-1) == at.target
        sums["loss"] += float(loss.total.detach()) * len(batch)
        sums["reliability"] += float(at.row_mean(right.double())[batch.edit_rows].sum())
        sums["portability"] += float(loss.terms["portability"].detach()) * loss.rows["portability"]
        hops += loss.rows["portability"]
    assert float(logged["val/loss"]) == pytest.approx(sums["loss"] / 6, rel=1e-9)
    assert float(logged["val/reliability"]) == pytest.approx(sums["reliability"] / 6, rel=1e-6)
    assert float(logged["val/portability/loss"]) == pytest.approx(sums["portability"] / hops)


def test_resuming_goes_on_exactly(tmp_path: Path) -> None:
    straight = training(any_model("opt"), lr_schedule="cosine")
    fit(straight, steps=6, folder=tmp_path)
    first = training(any_model("opt"), lr_schedule="cosine")
    trainer = fit(first, steps=6, folder=tmp_path, limit_train_batches=4, callbacks=[StopAfter(4)])
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    assert trainer.global_step == 4
    second = training(any_model("opt"), lr_schedule="cosine")
    fit(second, steps=6, folder=tmp_path, ckpt_path=str(tmp_path / "half.ckpt"))
    expected = straight.editor.state_dict()
    for name, value in second.editor.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_checkpoints_hold_the_editor_and_load(tmp_path: Path) -> None:
    model = any_model("opt")
    module = training(model)
    fit(module, steps=2, folder=tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert all(name.startswith("editor.") for name in checkpoint["state_dict"])
    found = MalmenOptions.model_validate(identity.editor_options(checkpoint))
    editor = build(found, model, inputs())
    identity.load_editor(editor, checkpoint, model)
    mine = module.editor.state_dict()
    assert all(torch.equal(value, mine[name]) for name, value in editor.state_dict().items())


def test_three_groups_have_their_own_rates(tmp_path: Path) -> None:
    module = training(any_model("opt"), lr=1e-9, lr_of_edit_lr=1e-3, lr_of_ridge=1e-2)
    before = {name: p.detach().clone() for name, p in module.editor.named_parameters()}
    fit(module, steps=1, folder=tmp_path)
    rates = {"edit_lr": 1e-3, "log_ridge": 1e-2}
    for name, parameter in module.editor.named_parameters():
        moved = float((parameter.detach() - before[name]).abs().max())
        if name in rates:
            assert moved == pytest.approx(rates[name], rel=1e-3)
        else:
            assert moved < 1e-7


def test_accumulated_updates_are_those_of_their_mean_loss(tmp_path: Path) -> None:
    model = any_model("opt")
    module = training(model)
    fit(module, steps=1, folder=tmp_path, accumulate_grad_batches=2, numbers=range(8))
    moved = {name: p.detach().clone() for name, p in module.editor.named_parameters()}
    by_hand = training(model)
    by_hand.trainer = L.Trainer(accelerator="cpu", devices=1, logger=False)
    by_hand.log = lambda *_, **__: None  # type: ignore[method-assign]
    optimizer = by_hand.configure_optimizers()
    for batch in (edit_batch(range(4)), edit_batch(range(4, 8))):
        (by_hand.train().training_step(batch, 0) / 2).backward()
    torch.nn.utils.clip_grad_norm_(by_hand.editor.parameters(), by_hand.options.grad_clip)
    optimizer.step()  # type: ignore[union-attr]
    for name, parameter in by_hand.editor.named_parameters():
        torch.testing.assert_close(moved[name], parameter.detach(), rtol=0, atol=1e-12)


def test_broken_losses_and_gradients_name_the_records(tmp_path: Path) -> None:
    module = training(any_model("opt"))
    with torch.no_grad():
        module.editor.edit_lr.fill_(float("inf"))
    with pytest.raises(ModelError, match=r"MALMEN's training loss .* 0 \(subject 0\)"):
        fit(module, steps=1, folder=tmp_path)
    module = training(any_model("opt"))
    module.editor.edit_lr.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(ModelError, match=r"gradient is not finite .* 3 \(subject 3\)\. Look"):
        fit(module, steps=1, folder=tmp_path)


def test_a_base_model_that_breaks_down_is_named_at_its_record(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a part of two edits, at a row of the second."""
    module, part = training(any_model("opt")), edit_batch((3, 8))
    suffix = module.model.suffix

    def broken(state: PrefixState, *, at: Answers, **edited: Any) -> torch.Tensor:
        logits = suffix(state, at=at, **edited)
        logits[at.row == at.n_rows - 1] = torch.nan
        return logits

    monkeypatch.setattr(module.model, "suffix", broken)
    with pytest.raises(ModelError, match=r"own logits are nan .*edit 8 \(subject 8\), probe loc"):
        module.judge_parts(DeltaEdit(), [part])


def test_an_update_of_a_step_without_room_is_refused() -> None:
    module = training(any_model("opt"))
    module.model.budget = MemoryBudget(free=100, device="this GPU")
    with pytest.raises(ModelError, match=r"3 edits with \d+ keys .* this GPU"):
        step(module, edit_batch((3, 8, 5)))


def test_mixed_precision_trains(tmp_path: Path) -> None:
    torch.set_default_dtype(torch.float32)
    module = training(any_model("llava"))
    logged = fit(module, steps=4, folder=tmp_path, precision="bf16-mixed").callback_metrics
    assert torch.isfinite(logged["val/loss"])
    assert module.editor.log_ridge.dtype == torch.float32


def test_small_losses_reach_the_networks_in_float16() -> None:
    """Of an update that is a matrix; unscaled, its gradient is below what float16 has."""
    torch.set_default_dtype(torch.float32)
    model = any_model("opt")
    editor = trained_malmen(model, edit_batch(range(20, 26)))
    draw = torch.Generator().manual_seed(3)
    shapes = {site: linear_shape(model.linear(site)) for site in editor.sites}
    tokens = {
        site: EditTokens(
            torch.randn(30, d_in, generator=draw), 1e-3 * torch.randn(30, d_out, generator=draw),
            torch.arange(30),
        )
        for site, (d_in, d_out) in shapes.items()
    }  # fmt: skip
    direction = {site: torch.randn(d, d_in) for site, (d_in, d) in shapes.items()}

    def gradients(size: float, scale: float = 1.0) -> dict[str, torch.Tensor]:
        update = DecoupledUpdate(editor, tokens)
        assert {type(delta) for delta in update.edit.deltas.values()} == {DenseDelta}
        made = [(update.edit.deltas[s].dense()[0] * direction[s]).sum() for s in editor.sites]
        update.collect(size * torch.stack(made).sum(), scale)
        return update.gradients()

    expected = gradients(1.0)
    with torch.autocast("cpu", dtype=torch.float16):
        got = gradients(1e-8, 2.0**16)
    for name, gradient in expected.items():
        off = (1e8 * got[name] - gradient).norm() / gradient.norm()
        assert off < 0.05, (name, float(off))


def test_an_update_is_shared_out_evenly() -> None:
    chosen = malmen_options(n_edits=6, max_iterations=20)
    assert (chosen.served(), chosen.served(2)) == (6, 3)
    assert chosen.optimiser_steps() == chosen.optimiser_steps(3) == 4
    with pytest.raises(ConfigError, match=r"editor\.n_edits=6 .* among 4 processes"):
        chosen.served(4)
