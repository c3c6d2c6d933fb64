"""MALMEN the editor, against its formulas written out, one edit and one token at a time."""

from __future__ import annotations

import pytest
import torch

from editors.malmen.editor import Malmen, build
from errors import ModelError
from models.budget import MemoryBudget
from models.deltas import DenseDelta, LowRankDelta, Site
from models.editable import EditableModel
from models.rows import EditBatch
from tests.builders import any_model, edit_batch, inputs
from tests.malmen_cases import (
    malmen,
    malmen_options,
    slow_changes,
    slow_tokens,
    slow_update,
    trained_malmen,
    turn_of,
)

KINDS = ("llava", "gpt2", "opt")
NUMBERS = (3, 8, 5, 2)


def batch_for(kind: str, numbers: tuple[int, ...] = NUMBERS) -> EditBatch:
    return edit_batch(numbers, pictures=kind == "llava")


def model_and_editor(kind: str) -> tuple[EditableModel, Malmen]:
    model = any_model(kind).double()
    return model, trained_malmen(model, batch_for(kind, (20, 21, 22, 23, 24, 25)))


@pytest.mark.parametrize("kind", KINDS)
def test_single_edits_are_those_of_the_formulas(kind: str) -> None:
    model, editor = model_and_editor(kind)
    batch = batch_for(kind)
    before = {name: value.clone() for name, value in editor.state_dict().items()}
    state = model.prefix(batch.rows, 1, packed=True)
    deltas = editor.edit(model, batch, state).deltas
    for edit in range(len(batch)):
        for site, (keys, gradients) in slow_tokens(model, editor.sites, batch, [edit]).items():
            expected = slow_update(editor, site, keys, slow_changes(editor, site, keys, gradients))
            got = deltas[site].dense()[edit]
            assert (got - expected).abs().max() <= 1e-6 * expected.abs().max(), (edit, site)
    assert all(torch.equal(value, before[name]) for name, value in editor.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_edits_together_are_one_solve_over_all_their_tokens(kind: str) -> None:
    model, editor = model_and_editor(kind)
    parts = [batch_for(kind, numbers) for numbers in (NUMBERS[:1], NUMBERS[1:])]
    deltas = editor.edit_together(model, turn_of(model, 1, parts)).deltas
    whole = batch_for(kind)
    tokens = slow_tokens(model, editor.sites, whole, range(len(whole)))
    for site, (keys, gradients) in tokens.items():
        expected = slow_update(editor, site, keys, slow_changes(editor, site, keys, gradients))
        assert deltas[site].n_edits == 1
        assert (deltas[site].dense()[0] - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_one_edit_made_together_is_the_single_edit() -> None:
    model, editor = model_and_editor("opt")
    batch = batch_for("opt", (3,))
    single = editor.edit(model, batch, model.prefix(batch.rows, 1)).deltas
    together = editor.edit_together(model, turn_of(model, 1, [batch])).deltas
    for site, delta in single.items():
        torch.testing.assert_close(together[site].dense(), delta.dense(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("numbers", [(3,), (3, 8)])
def test_edits_whose_tokens_have_no_gradient_change_nothing(numbers: tuple[int, ...]) -> None:
    """Half precision has no number for what an answer that is known already still asks for."""
    model, editor = model_and_editor("opt")
    with torch.no_grad():
        model.decoder.head.weight.zero_()
    batch = batch_for("opt", numbers)
    single = editor.edit(model, batch, model.prefix(batch.rows, 1)).deltas
    together = editor.edit_together(model, turn_of(model, 1, [batch])).deltas
    for site in editor.sites:
        assert single[site].n_edits == len(numbers)
        assert not single[site].dense().any()
        assert not together[site].dense().any()


def test_edits_are_made_on_the_model_that_earlier_ones_have_changed() -> None:
    model, editor = model_and_editor("llava")
    first, second = batch_for("llava", NUMBERS[:2]), batch_for("llava", NUMBERS[2:])
    earlier = editor.edit_together(model, turn_of(model, 1, [first]))
    alone = editor.edit_together(model, turn_of(model, 1, [second]))
    with earlier.in_place(model):
        after = editor.edit_together(model, turn_of(model, 1, [second]), earlier)
        tokens = slow_tokens(model, editor.sites, second, range(2))
    for site, (keys, gradients) in tokens.items():
        expected = slow_update(editor, site, keys, slow_changes(editor, site, keys, gradients))
        assert (after.deltas[site].dense()[0] - expected).abs().max() <= 1e-6 * expected.abs().max()
    changed = editor.sites[-1]
    assert not torch.allclose(after.deltas[changed].dense(), alone.deltas[changed].dense())


def test_many_tokens_become_a_matrix() -> None:
    """Of 16 x 24 numbers; a token's pair has 40, so ten tokens or more are a matrix."""
    model, editor = model_and_editor("opt")
    few = editor.edit_together(model, turn_of(model, 1, [batch_for("opt", (3, 8))])).deltas
    many = editor.edit_together(model, turn_of(model, 1, [batch_for("opt", tuple(range(12)))]))
    assert {type(delta) for delta in few.values()} == {LowRankDelta}
    assert {type(delta) for delta in many.deltas.values()} == {DenseDelta}


def test_gradients_reach_every_parameter_of_a_single_edit() -> None:
    model, editor = model_and_editor("opt")
    batch = batch_for("opt")
    deltas = editor.edit(model, batch, model.prefix(batch.rows, 1)).deltas
    torch.stack([delta.dense().square().sum() for delta in deltas.values()]).sum().backward()
    for name, parameter in editor.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


def test_an_untrained_editor_says_so() -> None:
    model = any_model("opt").double()
    editor, batch = malmen(model), batch_for("opt")
    assert not editor.ready
    with pytest.raises(ModelError, match=r"MALMEN's input statistics.*train\.py editor=malmen"):
        editor.eval().edit(model, batch, model.prefix(batch.rows, 1))


def test_statistics_take_all_tokens_before_any_is_normalised() -> None:
    """Also those of matrices that share a network: edits in train mode are those of eval mode."""
    model, batch = any_model("opt").double(), batch_for("opt")
    editor = malmen(model).train()
    state = model.prefix(batch.rows, 1)
    first = editor.edit(model, batch, state).deltas
    n_tokens = int(batch.rows.answer_mask[batch.edit_rows].sum())
    for network in editor.networks.values():
        assert int(network.statistics.count) == 2 * n_tokens  # two layers share it
    again = editor.eval().edit(model, batch, state).deltas
    for site, delta in first.items():
        torch.testing.assert_close(again[site].dense(), delta.dense(), rtol=0, atol=1e-12)


def test_an_update_without_room_says_how_many_edits_fit() -> None:
    model, editor = model_and_editor("opt")
    turn = turn_of(model, 1, [batch_for("opt", tuple(range(12)))])
    model.budget = MemoryBudget(free=10_000, device="this GPU")
    with pytest.raises(ModelError, match=r"12 edits with \d+ keys .* room for (\d+) keys"):
        editor.edit_together(model, turn)
    model.budget = MemoryBudget(free=10_000_000)
    editor.edit_together(model, turn)


def test_options_reach_the_editor() -> None:
    model = any_model("llama")
    chosen = malmen_options(layers=1, matrices=["mlp_gate", "mlp_out"], ridge=0.25, edit_lr=0.125)
    editor = build(chosen, model, inputs())
    assert editor.sites == [Site(2, "mlp_out"), Site(2, "mlp_gate")]
    assert editor.edit_lr.tolist() == [0.125, 0.125]
    torch.testing.assert_close(editor.log_ridge.exp(), torch.tensor([0.25, 0.25]))
    blocks = editor.networks["24x16"].blocks
    assert len(blocks) == 2
    assert blocks[0].a.shape == (40, 5)
    assert float(blocks[0].a.detach().std()) == pytest.approx(0.3, rel=0.2)
    assert not blocks[0].b.any()
