"""UltraEdit: single edits and turns, what goes from turn to turn, and its file of statistics."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from datamodules.records import Record
from editors.base import DeltaEdit, EditorInputs
from editors.turn import Turn
from editors.ultraedit.editor import UltraEdit, build
from editors.ultraedit.files import load_statistics, save_statistics
from editors.ultraedit.statistics import Statistics
from errors import ConfigError, DataError, ModelError
from models.budget import MemoryBudget
from models.deltas import DenseDelta, LowRankDelta, Site
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from models.tensor_file import TensorFile
from tests.builders import any_model, edit_batch, inputs, llava
from tests.editors import editor_options

EDITS = (3, 5, 8, 9)  # of 1, 3, 1 and 2 answer tokens
CLOSE = {"atol": 1e-6, "rtol": 1e-4}


def options(**changed: Any) -> Any:
    return editor_options("ultraedit", **{"layers": 2, "edit_lr": 0.05} | changed)


def taught(
    model: EditableModel, *edits: int, pictures: bool = True
) -> tuple[EditBatch, PrefixState]:
    batch = edit_batch(edits, pictures=pictures).teaching()
    return batch, model.prefix(batch.rows, 1, packed=True)


def turn_of(model: EditableModel, *parts: tuple[int, ...]) -> Turn:
    return Turn(sum(map(len, parts)), lambda: [taught(model, *part) for part in parts])


def warmed(model: EditableModel, **changed: Any) -> UltraEdit:
    """An editor with statistics of three edits."""
    cold = UltraEdit(options(**changed), model)
    return UltraEdit(cold.options, model, cold.statistics(model, [taught(model, 20, 21, 22)]))


def dense(edit: DeltaEdit, number: int = 0) -> dict[Site, Tensor]:
    return {site: delta.dense()[number] for site, delta in edit.deltas.items()}


def assert_same(first: dict[Site, Tensor], second: dict[Site, Tensor]) -> None:
    assert first.keys() == second.keys()
    for site, delta in first.items():
        assert delta.abs().max() > 1e-3
        torch.testing.assert_close(delta, second[site], **CLOSE)


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("is_warm", [False, True])
def test_a_single_edit_is_a_first_turn_of_one_edit_in_any_batch(
    whitening: bool, is_warm: bool
) -> None:
    model = llava()
    editor = warmed(model, whitening=whitening)
    edits = EDITS if is_warm else (5, 9)
    if not is_warm:
        editor = UltraEdit(editor.options, model)
    side_by_side = editor.edit(model, *taught(model, *edits))
    for number, edit in enumerate(edits):
        alone = editor.edit(model, *taught(model, edit))
        turn = editor.edit_together(model, turn_of(model, (edit,)), None)
        assert_same(dense(alone), dense(side_by_side, number))
        assert_same(dense(alone), dense(turn))
    assert isinstance(side_by_side.deltas[editor.sites[0]], LowRankDelta)


@pytest.mark.parametrize("kind", ["llava", "blip2", "opt", "gpt2"])
def test_the_base_is_the_same_bit_for_bit_and_the_edit_answers(kind: str) -> None:
    model = any_model(kind)
    before = {name: value.clone() for name, value in model.hf.state_dict().items()}
    editor = UltraEdit(options(), model)
    pictures = kind in ("llava", "blip2")
    batch = edit_batch(EDITS, pictures=pictures)
    teaching = batch.teaching()
    parts = [(teaching, model.prefix(teaching.rows, 1))]
    edit = editor.edit_together(model, Turn(len(EDITS), lambda: parts), None)
    rows, state = batch.rows, model.prefix(batch.rows, 1)
    rows.edit_index.zero_()
    moved = edit.answer(model, rows, state, rows.answers()) - model.suffix(state, at=rows.answers())
    assert moved.abs().max() > 0.01
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    assert not any(model.linear(site)._forward_hooks for site in editor.sites)


def test_neither_the_parts_of_a_turn_nor_its_order_matter() -> None:
    model = llava()
    editor = UltraEdit(options(), model)
    whole = editor.edit_together(model, turn_of(model, EDITS), None)
    assert_same(
        dense(whole), dense(editor.edit_together(model, turn_of(model, (3, 5), (8, 9)), None))
    )
    assert_same(
        dense(whole), dense(editor.edit_together(model, turn_of(model, (9,), (8, 5, 3)), None))
    )


def test_statistics_go_from_turn_to_turn_with_the_edit_and_not_with_the_editor() -> None:
    model = llava()
    editor = warmed(model)
    warm = copy.deepcopy(editor.warm)
    first = editor.edit_together(model, turn_of(model, (3, 5)), None).after(None)
    with model.deltas_in_place(first.deltas):
        then = editor.edit_together(model, turn_of(model, (8, 9)), first)
        forgetful = editor.edit_together(model, turn_of(model, (8, 9)), None)
    both = then.after(first)
    for site in editor.sites:
        assert not torch.allclose(dense(then)[site], dense(forgetful)[site], **CLOSE)
        torch.testing.assert_close(dense(both)[site], dense(first)[site] + dense(then)[site])
        counts = [of.seen[site].keys.count.item() for of in (first, then, both)]
        assert counts[2] == counts[0] + counts[1]
        assert editor.warm[site].keys.count.equal(warm[site].keys.count)
        assert editor.warm[site].gradients.scatter.equal(warm[site].gradients.scatter)
    third = editor.edit_together(model, turn_of(model, (3,)), both)
    known = UltraEdit(editor.options, model, _merged(editor.warm, both.seen))
    assert_same(dense(third), dense(known.edit_together(model, turn_of(model, (3,)), None)))


def _merged(first: Statistics, then: Statistics) -> Statistics:
    return {site: of.merged(then[site]) for site, of in first.items()}


def test_a_turn_of_many_tokens_is_a_matrix() -> None:
    """Pairs would be more numbers than the matrix has."""
    model = llava()
    edit = UltraEdit(options(), model).edit_together(model, turn_of(model, tuple(range(30))), None)
    assert all(isinstance(delta, DenseDelta) for delta in edit.deltas.values())


def test_edits_of_other_methods_may_be_in_place() -> None:
    model = llava()
    editor = warmed(model)
    other = DeltaEdit({Site(2, "mlp_out"): DenseDelta(torch.ones(1, 16, 24))})
    edit = editor.edit(model, *taught(model, 3)).after(other)
    alone = editor.edit(model, *taught(model, 3))
    moved = dense(edit)[Site(2, "mlp_out")] - dense(alone)[Site(2, "mlp_out")]
    torch.testing.assert_close(moved, torch.ones(16, 24))
    assert edit.seen[Site(1, "mlp_in")].keys.count == alone.seen[Site(1, "mlp_in")].keys.count


def test_whitening_on_top_of_an_edit_without_correlations_is_refused() -> None:
    """The other way round the correlations are let go."""
    model = llava()
    plain, whitening = (warmed(model, whitening=on) for on in (False, True))
    first = plain.edit_together(model, turn_of(model, (3, 4)), None)
    with pytest.raises(ModelError, match=r"on top of an UltraEdit edit that was made without it"):
        whitening.edit_together(model, turn_of(model, (5, 6)), first)
    white = whitening.edit_together(model, turn_of(model, (3, 4)), None)
    second = plain.edit_together(model, turn_of(model, (5, 6)), white)
    expected = plain.edit_together(model, turn_of(model, (5, 6)), first)
    assert_same(dense(second), dense(expected))
    for of_site in second.after(white).seen.values():
        assert not of_site.gradients.has_pairs


def test_one_token_without_statistics_is_refused_by_the_option_s_name() -> None:
    model = llava()
    editor = UltraEdit(options(), model)
    with pytest.raises(ModelError, match=r"editor\.warm_up=0.*single answer token.*such as 100"):
        editor.edit(model, *taught(model, 3, 5))
    with pytest.raises(ModelError, match=r"editor\.warm_up"):
        editor.edit_together(model, turn_of(model, (3,)), None)
    for delta in dense(warmed(model).edit(model, *taught(model, 3))).values():
        assert delta.isfinite().all()


@pytest.mark.parametrize("whitening", [False, True])
@pytest.mark.parametrize("is_warm", [False, True])
def test_edits_whose_tokens_have_no_gradient_change_nothing(whitening: bool, is_warm: bool) -> None:
    """Half precision has no number for what an answer that is known already still asks for."""
    model = llava()
    editor = warmed(model, whitening=whitening)
    if not is_warm:
        editor = UltraEdit(editor.options, model)
    with torch.no_grad():
        model.decoder.head.weight.zero_()
    turn = editor.edit_together(model, turn_of(model, (3, 5)), None)
    for edit in (turn, editor.edit(model, *taught(model, 3)), turn.after(None)):
        for site in editor.sites:
            assert not dense(edit)[site].any()
            assert int(edit.seen[site].keys.count) == 0


def test_a_broken_model_is_named() -> None:
    model = llava()
    editor = warmed(model)
    batch, state = taught(model, 3)
    with torch.no_grad():
        model.decoder.head.weight[5] = torch.nan
    with pytest.raises(ModelError, match="own logits are nan"):
        editor.edit(model, batch, state)


def test_options_reach_the_update() -> None:
    model = llava()
    base = dense(warmed(model).edit(model, *taught(model, 3)))
    far = dense(warmed(model, edit_lr=0.1).edit(model, *taught(model, 3)))
    assert_same({site: 2 * delta for site, delta in base.items()}, far)
    held = dense(warmed(model, ridge=100.0).edit(model, *taught(model, 3)))
    assert all(held[site].norm() < 0.5 * delta.norm() for site, delta in base.items())
    shrunk = warmed(model, whitening=True, shrinkage=1.0)
    assert_same(base, dense(shrunk.edit(model, *taught(model, 3))))
    white = dense(warmed(model, whitening=True, shrinkage=0.1).edit(model, *taught(model, 3)))
    assert all(not torch.allclose(white[site], delta, rtol=0.1) for site, delta in base.items())
    few = warmed(model, layers=1, matrices=["mlp_out"])
    assert list(few.edit(model, *taught(model, 3)).deltas) == [Site(2, "mlp_out")]
    assert (few.first_layer(model), few.options.label) == (2, "ultraedit")
    assert shrunk.options.label == "ultraedit_whitened"


def test_memory_counts_edits_tokens_and_pairs() -> None:
    model, batch = llava(), edit_batch(EDITS)
    one = UltraEdit(options(), model).held_bytes(model, edit_batch(EDITS[:1]))
    all_of_them = UltraEdit(options(), model).held_bytes(model, batch)
    pairs = UltraEdit(options(whitening=True), model).held_bytes(model, batch)
    assert one < all_of_them < pairs
    assert pairs - all_of_them == len(EDITS) * 8 * 2 * (16**2 + 24**2)


def test_an_update_without_room_says_how_many_edits_fit() -> None:
    model, turn = llava(), tuple(range(12))
    editor = UltraEdit(options(), model)
    model.budget = MemoryBudget(free=40_000, device="this GPU")
    with pytest.raises(ModelError, match=r"12 edits with \d+ keys .* this GPU .*about \d edits"):
        editor.edit_together(model, turn_of(model, turn), None)
    model.budget = MemoryBudget(free=10_000_000)
    editor.edit_together(model, turn_of(model, turn), None)


def test_the_warm_up_looks_at_training_edits_once() -> None:
    model = llava()
    wanted: list[int] = []

    def training_edits(n_edits: int) -> list[EditBatch]:
        wanted.append(n_edits)
        return [edit_batch(edits, pictures=True).teaching() for edits in ((20, 21), (22,))]

    given = EditorInputs(inputs().encoder, training_edits=training_edits)
    editor = build(options(warm_up=3), model, given)
    assert wanted == [3]
    expected = warmed(model)
    assert_same(
        dense(editor.edit(model, *taught(model, 3))), dense(expected.edit(model, *taught(model, 3)))
    )
    assert build(options(warm_up=0), model, inputs()).warm == {}
    with pytest.raises(DataError, match="3 edits of a training split"):
        build(options(warm_up=3), model, inputs())


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Statistics of three edits, of gradients in pairs."""
    model, path = llava(), tmp_path / "statistics.safetensors"
    editor = warmed(model, whitening=True)
    save_statistics(path, editor.warm, model, {"edits": "3"})
    return path


@pytest.mark.parametrize("whitening", [False, True])
def test_statistics_come_back_from_their_file(file: Path, whitening: bool) -> None:
    model = llava()
    chosen = options(statistics=str(file), warm_up=100, whitening=whitening)
    assert not chosen.shows_records
    editor = build(chosen, model, inputs())
    expected = warmed(model, whitening=whitening)
    assert_same(
        dense(editor.edit(model, *taught(model, 3))), dense(expected.edit(model, *taught(model, 3)))
    )


def test_statistics_of_another_model_or_other_matrices_are_refused(
    file: Path, tmp_path: Path
) -> None:
    model = llava()
    with pytest.raises(ModelError, match=r"made for the model .* instead of"):
        load_statistics(str(file), llava(seed=1), [Site(2, "mlp_out")], pairs=False)
    with pytest.raises(ModelError, match=r"no statistics of 0\.mlp_in; it has those of 1\.mlp_in"):
        load_statistics(str(file), model, [Site(0, "mlp_in"), Site(1, "mlp_in")], pairs=False)
    plain = tmp_path / "plain.safetensors"
    save_statistics(plain, warmed(model).warm, model, {})
    with pytest.raises(ModelError, match=r"correlations, which editor\.whitening=true needs"):
        load_statistics(str(plain), model, [Site(2, "mlp_out")], pairs=True)
    part = TensorFile.of(plain, remedy="")
    tensors = part.read()
    del tensors["2.mlp_out.gradients.mean"]
    save_file(tensors, plain, dict(part.facts))
    with pytest.raises(ModelError, match=r"no 2\.mlp_out\.gradients\.mean; .*analysis statistics"):
        load_statistics(str(plain), model, [Site(2, "mlp_out")], pairs=False)
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(ModelError, match="cannot be read"):
        load_statistics(str(file), model, [Site(2, "mlp_out")], pairs=False)


def test_missing_files_and_small_training_splits_are_refused_before_any_model(
    tmp_path: Path,
) -> None:
    records: list[Record] = []
    with pytest.raises(ConfigError, match=r"no such file.*python -m analysis statistics"):
        options(statistics=str(tmp_path / "none")).check_records([], records)
    with pytest.raises(DataError, match=r"editor\.warm_up=100 .* which has 0 records"):
        options().check_records([], records)
    options(warm_up=0).check_records([], records)
