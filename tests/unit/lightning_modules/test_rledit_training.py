"""The training of RLEdit: the gradient of a trajectory, and a real Trainer around it."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from editors import checkpoint as identity
from editors.base import DeltaEdit
from editors.rledit.config import RleditOptions
from editors.rledit.editor import Rledit, build
from lightning_modules.malmen import MalmenTraining
from lightning_modules.rledit import RleditTraining, squared_norm
from models.deltas import DenseDelta, LowRankDelta, Site
from models.editable import EditableModel
from models.parts import select_edits
from models.rows import EditBatch
from tests.builders import any_model, edit_batch, inputs, random_deltas
from tests.malmen_cases import (
    linear_shape_of,
    malmen_options,
    rledit_options,
    slow_changes,
    slow_loss,
    slow_tokens,
    slow_update,
    stirred_training,
    weights_of,
)
from tests.unit.lightning_modules.test_malmen_training import StopAfter, fit, step

pytestmark = pytest.mark.usefixtures("float64")
logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def training(model: EditableModel, **changed: Any) -> RleditTraining:
    return stirred_training(RleditTraining, rledit_options(**changed), model)


def observe(editor: Rledit, seen: Mapping[Site, Sequence[Tensor]]) -> None:
    """Statistics of all tokens so far, by their definition."""
    for shape in {linear_shape_of(editor, site) for site in editor.sites}:
        alike = [site for site in editor.sites if linear_shape_of(editor, site) == shape]
        tokens = torch.cat([torch.cat(list(seen[site])) for site in alike])
        statistics: Any = editor.networks["{}x{}".format(*shape)].statistics
        statistics.count.fill_(len(tokens))
        statistics.mean.copy_(tokens.mean(0))
        statistics.squares.copy_((tokens - tokens.mean(0)).square().sum(0))


def slow_trajectory(
    module: RleditTraining, model: EditableModel, turns: Sequence[EditBatch]
) -> tuple[float, dict[str, Tensor]]:
    """Loss and gradients, turn by turn: dense weights, one graph from a loss to the networks."""
    editor, chosen = module.editor, module.options
    names, parameters = zip(*editor.named_parameters(), strict=True)
    totals = {name: torch.zeros_like(value) for name, value in editor.named_parameters()}
    in_place: dict[Site, Tensor] = {}
    seen: dict[Site, list[Tensor]] = {site: [] for site in editor.sites}
    total = 0.0
    for number, turn in enumerate(turns):
        before = weights_of(model, in_place)
        tokens = slow_tokens(_leaves(before), editor.sites, turn, range(len(turn)))
        for site, sides in tokens.items():
            seen[site].append(torch.cat(sides, -1))
        observe(editor, seen)
        update = {
            site: slow_update(editor, site, keys, slow_changes(editor, site, keys, gradients))
            for site, (keys, gradients) in tokens.items()
        }
        after = weights_of(model, {s: in_place.get(s, 0) + dW for s, dW in update.items()})
        loss = chosen.norm_weight * sum(dW.square().sum() for dW in update.values())
        for ago in range(min(chosen.memory, number) + 1):
            earlier = slow_loss(model, after, turns[number - ago], module.objective)
            loss = loss + chosen.discount**ago * earlier
        for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
            totals[name] += gradient
        total += float(loss.detach())
        in_place = {s: in_place.get(s, 0) + dW.detach() for s, dW in update.items()}
    return total, totals


def _leaves(model: EditableModel) -> EditableModel:
    """The same weights, as parameters."""
    for module in model.modules():
        if isinstance(weight := module.__dict__.get("weight"), Tensor):
            del module.weight
            module.weight = torch.nn.Parameter(weight.detach().clone())
    return model


@pytest.mark.parametrize(
    ("kind", "numbers", "changed"),
    [
        ("opt", (3, 8, 5, 2, 7, 4), {}),
        ("opt", (3, 8, 5, 2, 7, 4), {"memory": 0, "batch_size": 1, "net_batch": 1}),
        ("opt", (*range(12), 15, 17), {"turns": 2, "n_edits": 7, "memory": 4}),
        ("llava", (1, 2, 4, 6), {"turns": 2, "weights": {"image": 0.3}}),
    ],
)
def test_gradients_of_a_trajectory_are_those_of_the_formulas(
    kind: str, numbers: tuple[int, ...], changed: dict[str, Any]
) -> None:
    model = any_model(kind).double()
    batch = edit_batch(numbers, pictures=kind == "llava")
    module = training(model, **changed)
    n_turns = module.options.turns
    got = step(module, batch)
    turns = [
        edit_batch(numbers[turn::n_turns], pictures=kind == "llava") for turn in range(n_turns)
    ]
    total, expected = slow_trajectory(module, model, turns)
    assert float(got["loss"]) == pytest.approx(total, rel=1e-7)
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        assert scale > 0, name
        assert (got[name] - gradient).abs().max() <= 1e-6 * scale, name


def test_a_trajectory_of_one_turn_is_malmen_s_step_and_its_norm() -> None:
    model, batch = any_model("opt").double(), edit_batch((3, 8, 5, 2))
    module = training(model, turns=1, n_edits=4, norm_weight=0.0)
    got = step(module, batch)
    malmen = stirred_training(MalmenTraining, malmen_options(), model)
    for name, value in step(malmen, batch).items():
        torch.testing.assert_close(got[name], value, rtol=1e-9, atol=1e-12)


def test_the_norm_of_factors_is_that_of_their_matrix() -> None:
    model = any_model("opt").double()
    for dense in (False, True):
        for delta in random_deltas(model, layers=1, dense=dense, n_edits=1).values():
            assert isinstance(delta, DenseDelta if dense else LowRankDelta)
            torch.testing.assert_close(squared_norm(delta), delta.dense().square().sum())


def test_validation_judges_all_edits_with_all_turns_in_place(tmp_path: Path) -> None:
    model = any_model("opt")
    module = training(model)
    logged = fit(module, steps=4, folder=tmp_path).callback_metrics
    module.eval()
    loss = right = 0.0
    for numbers in (range(30, 34), range(34, 36)):
        n_turns, edits = min(module.options.turns, len(numbers)), DeltaEdit()
        for turn in range(n_turns):
            made = module.turn([edit_batch(list(numbers)[turn::n_turns])])
            with model.deltas_in_place(edits.deltas):
                edit = module.editor.edit_together(model, made)
            edits = edit.after(edits)
        batch = edit_batch(numbers)
        state = model.prefix(batch.rows, 1)
        batch.rows.edit_index.zero_()
        loss += float(module.objective(model, edits, batch, state).total) * len(batch)
        at = batch.rows.answers()
        hits = edits.answer(model, batch.rows, state, at).argmax(-1) == at.target
        right += float(at.row_mean(hits.double())[batch.edit_rows].sum())
    assert float(logged["val/loss"]) == pytest.approx(loss / 6, rel=1e-9)
    assert float(logged["val/reliability"]) == pytest.approx(right / 6, rel=1e-6)


def test_training_leaves_the_base_alone_and_goes_on_exactly(tmp_path: Path) -> None:
    model = any_model("opt")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    straight = training(model, lr_schedule="cosine")
    fit(straight, steps=5, folder=tmp_path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    first = training(any_model("opt"), lr_schedule="cosine")
    trainer = fit(first, steps=5, folder=tmp_path, limit_train_batches=4, callbacks=[StopAfter(4)])
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    second = training(any_model("opt"), lr_schedule="cosine")
    fit(second, steps=5, folder=tmp_path, ckpt_path=str(tmp_path / "half.ckpt"))
    expected = straight.editor.state_dict()
    for name, value in second.editor.state_dict().items():
        assert torch.equal(value, expected[name]), name
    stored = torch.load(tmp_path / "half.ckpt", weights_only=True)
    chosen = RleditOptions.model_validate(identity.editor_options(stored))
    identity.load_editor(build(chosen, model, inputs()), stored, model)


def test_a_turn_of_which_nothing_is_asked_is_made_all_the_same() -> None:
    """As where another edit contradicts all probes of it."""
    model = any_model("opt").double()
    batch = edit_batch((3, 8))
    asked = {name: rows[batch.rows.edit_index[rows] == 1] for name, rows in batch.probes.items()}
    module = training(model, turns=2, n_edits=1, memory=0)
    got = step(module, replace(batch, probes=asked))
    assert float(got["loss"]) > 0
    assert all(bool(value.isfinite().all()) for value in got.values())
    whole = step(training(model, turns=2, n_edits=1, memory=0), batch)
    assert float(whole["loss"]) > float(got["loss"])  # the first turn's share is missing


def test_edits_are_dealt_out_so_that_shares_of_processes_make_the_same_turns() -> None:
    module = training(any_model("opt").double(), turns=3, n_edits=4)
    every = edit_batch(range(12))
    shares = [select_edits(every, range(6)), select_edits(every, range(6, 12))]
    for turn, parts in enumerate(module.turns(every)):
        whole = [edit for part in parts for edit in part.edit_ids]
        of_shares = [
            edit for share in shares for part in module.turns(share)[turn]
            for edit in part.edit_ids
        ]  # fmt: skip
        assert whole == of_shares
    assert (module.options.served(), module.options.served(2)) == (12, 6)
    assert module.options.optimiser_steps() == 1
