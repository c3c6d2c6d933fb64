"""Many edits in one update, by editors that need no descent, against one edit after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
import torch

from editors.base import DeltaEdit
from editors.ike.editor import IkeEdit
from editors.mend.editor import Mend
from editors.none.editor import Unedited
from editors.serac.editor import SeracEdit
from models.deltas import DenseDelta, LowRankDelta, Site
from models.editable import EditableModel
from models.rows import EditBatch
from tests.builders import any_model, edit_batch
from tests.editors import ike, mend
from tests.ike_cases import InOrder, batch_of, model_and_encoder
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch
from tests.turns import turn_of

PARTS = ((3,), (4, 5, 6), (7, 8))  # by number; the answers of 4 and 5 are of unequal length
EXACT = {"rtol": 0.0, "atol": 1e-12}


def double_precision(kind: str, *, seed: int = 0) -> EditableModel:
    return any_model(kind, seed=seed).double()


@contextmanager
def left_as_it_is(model: EditableModel) -> Iterator[None]:
    """No weight of the model is another one after the block."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    yield
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def trained(model: EditableModel) -> Mend:
    """MEND of two layers, with networks that move what they get."""
    torch.manual_seed(5)
    editor = mend(model, layers=2, rank=8, v_init_std=0.1, edit_lr=0.1).double()
    for name, parameter in editor.named_parameters():
        if name.endswith(".u"):
            parameter.data += 0.1 * torch.randn_like(parameter)
    batch = edit_batch(range(20, 26))
    editor.train().edit(model, batch, model.prefix(batch.rows, 1))
    return editor.eval()


def alone(editor: Mend, model: EditableModel, number: int) -> DeltaEdit:
    batch = edit_batch([number])
    return editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))


@pytest.mark.parametrize("kind", ["opt", "gpt2"])
@pytest.mark.parametrize("on_top", [False, True], ids=["first", "on top"])
def test_mend_adds_up_what_each_edit_makes_alone(kind: str, on_top: bool) -> None:
    model = double_precision(kind)
    editor = trained(model)
    earlier = alone(editor, model, 30).after(None) if on_top else DeltaEdit()
    with left_as_it_is(model), earlier.in_place(model):
        turn = turn_of(model, editor, [edit_batch(part) for part in PARTS])
        update = editor.edit_together(model, turn, earlier if on_top else None)
        single = [alone(editor, model, number) for part in PARTS for number in part]
    assert sorted(update.deltas) == sorted(editor.sites)
    for site, delta in update.deltas.items():
        expected = torch.cat([edit.deltas[site].dense() for edit in single]).sum(0, keepdim=True)
        assert float(expected.detach().abs().max()) > 1e-3
        torch.testing.assert_close(delta.dense(), expected, **EXACT)


def test_mends_pairs_stand_side_by_side_while_they_are_fewer_numbers() -> None:
    model = double_precision("opt")
    editor = trained(model)
    few, many = (
        editor.edit_together(model, turn_of(model, editor, [edit_batch(part)]), None)
        for part in ((3, 4), range(3, 9))
    )
    last = Site(2, "mlp_out")  # 16 x 24, as many numbers as 9.6 pairs have
    pairs = few.deltas[last]
    assert isinstance(pairs, LowRankDelta)
    n_tokens = int(edit_batch((3, 4)).teaching().rows.answer_mask.sum())
    assert pairs.inputs.shape[1] == n_tokens  # none is padding
    assert isinstance(many.deltas[last], DenseDelta)


def test_of_one_edit_mend_makes_what_it_makes_alone() -> None:
    model = double_precision("gpt2")
    editor = trained(model)
    update = editor.edit_together(model, turn_of(model, editor, [edit_batch([5])]), None)
    for site, delta in alone(editor, model, 5).deltas.items():
        torch.testing.assert_close(update.deltas[site].dense(), delta.dense(), **EXACT)


@pytest.mark.parametrize("pictures", [False, True])
def test_seracs_memory_is_that_of_edits_one_after_the_other(pictures: bool) -> None:
    model = picture_model()
    editor = stirred(model)

    def batch_for(numbers: Sequence[int]) -> EditBatch:
        return looked(model, worded_batch(numbers, pictures=pictures))

    one_by_one: SeracEdit | None = None
    for number in (9, *(n for part in PARTS for n in part)):
        one_by_one = made(model, editor, batch_for([number]))[0].after(one_by_one)
    first = made(model, editor, batch_for([9]))[0].after(None)
    turn = turn_of(model, editor, [worded_batch(part, pictures=pictures) for part in PARTS])
    with left_as_it_is(model):
        update = editor.edit_together(model, turn, first)
    assert len(update.memory) == len(turn)
    together = update.after(first)
    assert one_by_one is not None
    for mine, theirs in zip(together.memory.entries, one_by_one.memory.entries, strict=True):
        assert mine.text == theirs.text
        assert (mine.picture is not None) == pictures
        if mine.picture is not None and theirs.picture is not None:
            torch.testing.assert_close(mine.picture, theirs.picture)
    batch = batch_for((4, 9))
    rows = batch.rows
    state, at = model.prefix(rows, 2), rows.answers()
    with torch.no_grad():
        answers = [edit.answer(model, rows, state, at) for edit in (together, one_by_one)]
    torch.testing.assert_close(*answers)


def test_ikes_facts_are_stored_as_those_of_edits_one_after_the_other() -> None:
    model, encoder = model_and_encoder("gpt2")
    editor, batch_for = ike(encoder, InOrder(), k=2), partial(batch_of, encoder)

    def stored_on(earlier: IkeEdit | None, numbers: Sequence[int]) -> IkeEdit | None:
        for batch in (batch_for([number]) for number in numbers):
            earlier = editor.edit(model, batch, model.prefix(batch.rows, 2)).after(earlier)
        return earlier

    first = stored_on(None, [9])
    turn = turn_of(model, editor, [*map(batch_for, PARTS)])
    with left_as_it_is(model):
        update = editor.edit_together(model, turn, first)
    assert update.stored
    assert update.after(first) == stored_on(first, [n for part in PARTS for n in part])
    assert update.after(None) == update


def test_the_unedited_model_stays_so() -> None:
    model, editor = any_model("gpt2"), Unedited()
    turn = turn_of(model, editor, [edit_batch(part) for part in PARTS])
    with left_as_it_is(model):
        assert editor.edit_together(model, turn, None) == editor.edit(model, *next(iter(turn)))
