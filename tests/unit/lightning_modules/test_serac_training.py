"""The training module of SERAC: both objectives, what they move, resuming, processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import pytest
import torch
from torch import Tensor, distributed
from torch.utils.data import DataLoader

from editors import checkpoint as identity
from editors.base import EditorInputs
from editors.objective import Objective, OuterLoss
from editors.serac.config import SeracOptions
from editors.serac.editor import SeracEdit
from editors.serac.editor import build as build_serac
from editors.serac.similarity import balanced_bce
from lightning_modules.serac import SeracTraining
from metrics.functional import kl_divergence, negative_log_likelihood
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from tests.builders import inputs
from tests.serac_cases import (
    RECORDS,
    drawn_from_records,
    looked,
    made,
    options,
    picture_model,
    worded_batch,
)
from tests.unit.editors.test_serac_asked import suffixes

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
WEIGHTS = {"generality": 1.0, "image": 1.0}


def training(model: EditableModel, *, scenario: str = "unimodal", **changed: Any) -> SeracTraining:
    torch.manual_seed(11)
    chosen = options(**{"weights": WEIGHTS, **changed})
    questions = chosen.questions_for(scenario)  # type: ignore[arg-type]
    objective = Objective(questions, chosen.weights.model_dump())
    return SeracTraining(chosen, model, inputs(), objective)


def loader(numbers: Sequence[int], *, pictures: bool) -> DataLoader[EditBatch]:
    batches = [
        worded_batch(numbers[start : start + 2], pictures=pictures)
        for start in range(0, len(numbers), 2)
    ]
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class SaveAt(L.Callback):
    """Writes a checkpoint where train.py does: at the end of a step's batch."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.step:
            trainer.save_checkpoint(self.path)


def fit(
    module: SeracTraining,
    *,
    steps: int,
    folder: Path,
    pictures: bool = False,
    ckpt_path: str | None = None,
    **arguments: Any,
) -> L.Trainer:
    trainer = L.Trainer(
        max_steps=steps,
        max_epochs=-1,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
        num_sanity_val_steps=0,
        default_root_dir=str(folder),
        **arguments,
    )
    data = loader(range(8), pictures=pictures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, data, data, ckpt_path=ckpt_path)
    return trainer


def as_in_a_step(module: SeracTraining) -> SeracTraining:
    """Lets a module judge without a Trainer."""
    module._trainer = SimpleNamespace(world_size=1, global_step=0)  # type: ignore[assignment]
    module.log = lambda *_, **__: None  # type: ignore[method-assign]
    return module.train()


def judged(
    module: SeracTraining, batch: EditBatch
) -> tuple[EditBatch, PrefixState, SeracEdit, OuterLoss]:
    batch = looked(module.model, batch)
    edit, state = made(module.model, module.editor, batch)
    return batch, state, edit, as_in_a_step(module).judge(batch, state, edit)


@pytest.mark.parametrize(("objective", "pictures"), [("mixture", True), ("supervised", False)])
def test_training_lowers_the_loss(objective: str, pictures: bool, tmp_path: Path) -> None:
    model = picture_model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scenario = "multimodal" if pictures else "unimodal"
    module = training(model, scenario=scenario, objective=objective)
    first = fit(module, steps=4, folder=tmp_path, pictures=pictures).callback_metrics
    start = float(first["val/loss"])
    rest: dict[str, Any] = {"folder": tmp_path, "pictures": pictures, "check_val_every_n_epoch": 6}
    logged = fit(module, steps=24, **rest).callback_metrics
    assert float(logged["val/loss"]) < start - 0.1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    kept = "locality_t" if pictures else "locality"
    common = {"train/loss", "train/grad_norm", "val/reliability", "val/generality",
              f"val/{kept}", "val/scope/recall", "val/scope/margin"}  # fmt: skip
    assert common <= logged.keys()
    if objective == "supervised":
        assert {"train/scope/inside", "train/scope/outside", "train/scope/loss"} <= logged.keys()
        assert float(logged["val/scope/margin"]) > float(first["val/scope/margin"])
        assert float(logged["val/scope/inside"]) > float(logged["val/scope/outside"])


@pytest.mark.parametrize("objective", ["mixture", "supervised"])
@pytest.mark.parametrize("mode", ["embedding", "cross_attention"])
@pytest.mark.parametrize("pictures", [False, True])
def test_every_trained_weight_is_in_every_graph(objective: str, mode: str, pictures: bool) -> None:
    """Data-parallel training wants a gradient of all; text batches leave out the projections."""
    module = training(
        picture_model(),
        scenario="multimodal" if pictures else "unimodal",
        objective=objective,
        scope={"mode": mode, "image": mode == "embedding"},
    )
    *_, loss = judged(module, worded_batch([1, 2, 4], pictures=pictures))
    loss.total.backward()
    trained = {name: p for name, p in module.editor.named_parameters() if p.requires_grad}
    assert not [name for name, p in trained.items() if p.grad is None]
    still = {name for name, p in trained.items() if not p.grad.any()}  # type: ignore[union-attr]
    expected = set() if pictures else {"scope.pictures.weight", "counterfactual.pictures.weight"}
    expected |= {"scope.log_scale"} if mode == "cross_attention" else set()
    assert still == expected & trained.keys()


def test_the_mixture_is_compared_at_every_token_where_that_is_asked() -> None:
    model = picture_model()
    module = training(model, scenario="multimodal")
    module.objective = Objective("image_text", {"locality": 1.0}, "all")
    batch, _, edit, loss = judged(module, worded_batch([1, 2], pictures=True))
    values = []
    for row in batch.probes["locality_i_far"]:
        one = batch.rows.select(row[None])
        at, state = (
            one.positions(torch.tensor([True])),
            model.prefix(one, module.model.n_layers - 1),
        )
        before, after = model.suffix(state, at=at), edit.answer(model, one, state, at)
        assert len(before) == int(one.attention_mask.sum())
        values.append(kl_divergence(before, after).mean())
    torch.testing.assert_close(loss.terms["locality_i"], torch.stack(values).mean())


def test_a_step_asks_the_unedited_model_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """For the mixture, and for what it is compared with."""
    model = picture_model()
    module, batch = training(model, scenario="multimodal"), worded_batch((1, 2), pictures=True)
    passes = suffixes(model, monkeypatch)
    once = module.edit_and_judge(batch)[2]
    assert len(passes) == 1
    module.editor.asks_unedited = False
    twice = module.edit_and_judge(batch)[2]
    assert len(passes) == 3
    assert once.rows["locality_i"] == 2
    torch.testing.assert_close(once.total, twice.total, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_two_steps_move_all_parts(combine: str, tmp_path: Path) -> None:
    """The mixture that is trained is soft whatever an evaluation takes."""
    module = training(picture_model(), scenario="multimodal", combine=combine)
    before = {name: value.clone() for name, value in module.editor.state_dict().items()}
    fit(module, steps=2, folder=tmp_path, pictures=True, limit_val_batches=0)
    after = module.editor.state_dict()
    # biases that both embeddings share cancel in their distance
    same = {name for name, value in after.items() if torch.equal(value, before[name])}
    assert not {name for name in same if not name.endswith("bias")}, same


def test_networks_have_their_own_rates(tmp_path: Path) -> None:
    module = training(picture_model(), lr=1e-9, counterfactual_lr=1e-3)
    before = {name: value.clone() for name, value in module.editor.state_dict().items()}
    fit(module, steps=1, folder=tmp_path, limit_val_batches=0)
    for name, value in module.editor.state_dict().items():
        moved = float((value - before[name]).abs().max())
        if name.startswith("scope."):
            assert moved < 1e-8, name
        elif "pictures" not in name:
            assert moved == pytest.approx(1e-3, rel=0.05), name
    groups = module.configure_optimizers().param_groups  # type: ignore[union-attr]
    ours = [id(p) for group in groups for p in group["params"]]
    assert sorted(ours) == sorted(id(p) for p in module.editor.parameters() if p.requires_grad)


def test_mixture_is_the_published_loss() -> None:
    """0.1 NLL + 0.1 NLL + KL on the soft mixture, by hand; the KL of pictures counts."""
    module = training(picture_model(), scenario="multimodal", weights={})
    batch, state, edit, loss = judged(module, worded_batch([1], pictures=True))
    at = batch.rows.answers()
    model = module.model
    mixed, base = edit.answer(model, batch.rows, state, at), model.suffix(state, at=at)
    nll = negative_log_likelihood(mixed, at.target)
    before, after = base.log_softmax(-1), mixed.log_softmax(-1)
    kl = (before.exp() * (before - after)).sum(-1)

    def mean(values: Tensor, probe: str) -> Tensor:
        return values[at.row == batch.probes[probe]].mean()

    expected = (
        0.1 * mean(nll, "generality_s")
        + 0.1 * mean(nll, "reliability_u")
        + (mean(kl, "locality_t_far") + mean(kl, "locality_t_near")) / 2
        + mean(kl, "locality_i_far")
    )
    torch.testing.assert_close(loss.total, expected, rtol=1e-4, atol=1e-6)
    assert float(loss.terms["locality_i"].detach()) > 0


def test_supervised_is_gold_entries_and_balanced_cross_entropy() -> None:
    module = training(picture_model(), objective="supervised", weights={})
    batch, _, edit, loss = judged(module, worded_batch([1, 2]))
    at = batch.rows.answers()
    gold = edit.counterfactual(batch.rows, at, batch.rows.edit_index)
    nll = at.row_mean(negative_log_likelihood(gold, at.target))
    log_p, _ = edit.retrieved(batch.rows)
    probes = batch.probes
    about = torch.cat([batch.edit_rows, probes["generality"], probes["portability"]])
    others = torch.cat([probes["locality_far"], probes["locality_near"]])
    both = torch.cat([about, others])
    inside = torch.arange(len(both)) < len(about)
    scope = balanced_bce(log_p[both], inside)
    expected = 0.1 * (nll[probes["generality"]].mean() + nll[probes["portability"]].mean()) + scope
    torch.testing.assert_close(loss.total, expected)
    torch.testing.assert_close(loss.terms["scope"], scope)


def test_the_gold_entry_teaches_the_counterfactual_model_whatever_the_scope_says() -> None:
    module = training(picture_model(), objective="supervised", weights={"locality": 1e-9})
    with torch.no_grad():
        module.editor.scope.log_scale.fill_(20.0)  # nothing is in scope
    *_, loss = judged(module, worded_batch([1, 2]))
    loss.total.backward()
    lm = module.editor.counterfactual.lm.model.norm.weight  # type: ignore[union-attr]
    assert float(lm.grad.abs().max()) > 1e-4  # type: ignore[union-attr, operator]


@pytest.mark.parametrize("objective", ["mixture", "supervised"])
def test_processes_together_have_the_loss_of_one_batch(
    objective: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Terms divide by the rows of all processes; edit 3 has no one-hop question."""
    module = training(picture_model(), objective=objective, weights={})
    *_, whole = judged(module, worded_batch([1, 2, 3]))
    parts = [worded_batch([1, 2]), worded_batch([3])]
    sums = _row_counts(monkeypatch, module, parts)
    losses = []
    for part in parts:
        pending = iter(sums)
        monkeypatch.setattr(distributed, "all_reduce", lambda t, p=pending: t.copy_(next(p)))
        losses.append(judged(module, part)[-1].total)
    torch.testing.assert_close(torch.stack(losses).mean(), whole.total, rtol=1e-5, atol=1e-6)


def _row_counts(
    monkeypatch: pytest.MonkeyPatch, module: SeracTraining, parts: Sequence[EditBatch]
) -> list[Tensor]:
    """What each `all_reduce` of a step gives when these batches are the processes' own."""
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: len(parts))
    calls: list[list[Tensor]] = []
    for part in parts:
        mine: list[Tensor] = []
        monkeypatch.setattr(
            distributed, "all_reduce", lambda tensor, kept=mine: kept.append(tensor.clone())
        )
        judged(module, part)
        calls.append(mine)
    return [torch.stack(list(together)).sum(0) for together in zip(*calls, strict=True)]


def test_checkpoints_hold_the_editor_only_and_load_safely(tmp_path: Path) -> None:
    model = picture_model()
    module = training(model, scenario="multimodal")
    trainer = fit(module, steps=2, folder=tmp_path, pictures=True, limit_val_batches=0)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    state = checkpoint["state_dict"]
    assert all(name.startswith("editor.") for name in state)
    of_the_base = [value for value in model.state_dict().values() if value.ndim > 1]
    assert not [
        name
        for name, value in state.items()
        for other in of_the_base
        if value.shape == other.shape and torch.equal(value, other)
    ]
    assert {"editor.scope.pictures.weight", "editor.counterfactual.pictures.weight"} <= state.keys()
    chosen = SeracOptions.model_validate(identity.editor_options(checkpoint))
    editor = build_serac(chosen, model, inputs())
    identity.load_editor(editor, checkpoint, model)
    assert not editor.training
    own = module.editor.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in editor.state_dict().items())


@pytest.mark.parametrize("objective", ["mixture", "supervised"])
def test_resuming_goes_on_exactly(objective: str, tmp_path: Path) -> None:
    def fresh() -> SeracTraining:
        module = training(picture_model(), lr_schedule="cosine", objective=objective)
        if objective == "supervised":
            module.negatives = drawn_from_records(share=0.5, per_edit=2)
        return module

    path = tmp_path / "half.ckpt"
    straight, second = fresh(), fresh()
    fit(straight, steps=6, folder=tmp_path, callbacks=[SaveAt(4, path)], limit_val_batches=0)
    fit(second, steps=6, folder=tmp_path, ckpt_path=str(path), limit_val_batches=0)
    expected = straight.editor.state_dict()
    for name, value in second.editor.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_mixed_precision_trains_with_pictures(tmp_path: Path) -> None:
    module = training(picture_model(), scenario="multimodal")
    logged = fit(module, steps=4, folder=tmp_path, pictures=True, precision="bf16-mixed")
    assert torch.isfinite(logged.callback_metrics["val/loss"])
    assert module.editor.scope.log_scale.dtype == torch.float32


def test_supervised_needs_questions_out_of_scope() -> None:
    with pytest.raises(ValueError, match=r"give weights\.locality a positive value"):
        training(picture_model(), objective="supervised", weights={"locality": 0.0})


def test_only_serac_edits_are_judged() -> None:
    module = training(picture_model())
    batch = looked(module.model, worded_batch([1]))
    state = module.model.prefix(batch.rows, 2)
    with pytest.raises(TypeError, match="expected a SeracEdit, got object"):
        module.judge(batch, state, object())  # type: ignore[arg-type]


def test_hard_choices_are_judged_hard_and_trained_soft() -> None:
    module = training(picture_model(), combine="hard", weights={})
    batch, state, edit, loss = judged(module, worded_batch([1, 2]))
    assert loss.total.requires_grad
    soft = edit.answer(module.model, batch.rows, state, batch.rows.answers())
    module.eval()
    with torch.no_grad():
        hard = edit.answer(module.model, batch.rows, state, batch.rows.answers())
    assert not torch.allclose(soft.softmax(-1), hard.softmax(-1))


def test_negatives_enter_the_scopes_loss() -> None:
    module = training(picture_model(), objective="supervised", weights={})
    batch, state, edit, without = judged(module, worded_batch([1, 2]))
    module.negatives = drawn_from_records(per_edit=3)
    log_p, inside = module._scope(batch, edit)
    loss = module.judge(batch, state, edit)
    asked = len(batch.probes["locality_far"]) + len(batch.probes["locality_near"])
    assert int((~inside).sum()) == asked + 2 * 3
    torch.testing.assert_close(loss.terms["scope"], balanced_bce(log_p, inside))
    assert not torch.isclose(loss.terms["scope"], without.terms["scope"])
    module.eval()
    assert int((~module._scope(batch, edit)[1]).sum()) == asked


def test_negatives_come_from_the_training_records() -> None:
    chosen = options(objective="supervised", negatives={"share": 0.5})
    objective = Objective("text", chosen.weights.model_dump())
    with_records = EditorInputs(inputs().encoder, RECORDS)
    model = picture_model()
    module = SeracTraining(chosen, model, with_records, objective)
    assert module.negatives is not None
    assert module.negatives.pool == drawn_from_records().pool
    mixture = options(negatives={"share": 0.5})
    assert SeracTraining(mixture, model, with_records, objective).negatives is None
