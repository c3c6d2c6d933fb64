"""Deltas that are held in place: every operation of the model equals that of edited weights."""

from __future__ import annotations

import pytest
import torch

from errors import ModelError
from models.deltas import DenseDelta, LowRankDelta, Site, join_deltas, linear_weight
from models.editable import EditableModel
from models.hooks import add_to_output
from tests.builders import PICTURED, any_model, edited, llava, random_deltas
from tests.unit.models.test_editable import EXACT, all_hooks, rows_for

KINDS = (*PICTURED, "gpt2", "opt", "llama")
LOWEST = 1  # the lowest of two edited layers of three


def test_cases_edit_what_they_say() -> None:
    sites = random_deltas(any_model("llava"), layers=2, dense=True, n_edits=1)
    assert min(site.layer for site in sites) == LOWEST


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_operation_meets_the_edit_in_place(kind: str, dense: bool) -> None:
    model, rows = any_model(kind), rows_for(kind, extra=1)
    deltas = random_deltas(model, layers=2, dense=dense, n_edits=1)
    copied, at = edited(model, deltas, 0), rows.answers()
    state, real = model.prefix(rows, LOWEST), rows.attention_mask
    site, places = Site(LOWEST, "mlp_out"), torch.arange(len(rows))
    expected = {
        "whole": copied.suffix(copied.prefix(rows, LOWEST))[real],
        "answers": copied.suffix(state, at=at),
        "top": copied.finish_answers(copied.answer_state(state, at)),
        "above": copied.prefix(rows, LOWEST + 1).hidden[real],
        "key": copied.read(state, site, places, places)[0],
        "value": copied.read(state, site, places, places)[1],
        "weight": linear_weight(copied.linear(site)),
        "forward": copied(rows, at=at),
    }
    with model.deltas_in_place(deltas):
        found = {
            "whole": model.suffix(model.prefix(rows, LOWEST))[real],
            "answers": model.suffix(state, at=at),
            "top": model.finish_answers(model.answer_state(state, at)),
            "above": model.prefix(rows, LOWEST + 1).hidden[real],
            "key": model.read(state, site, places, places)[0],
            "value": model.read(state, site, places, places)[1],
            "weight": model.weight(site),
            "forward": model(rows, at=at),
        }
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=2e-5, rtol=1e-4, msg=name)
    assert (model.suffix(state, at=at) - expected["answers"]).abs().max() > 0.01


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_the_edited_weights(kind: str, dense: bool) -> None:
    model, rows = any_model(kind), rows_for(kind)
    deltas = random_deltas(model, layers=2, dense=dense, n_edits=1)
    copied, at, sites = edited(model, deltas, 0), rows.answers(), model.last_sites(2)
    state = model.prefix(rows, LOWEST)
    expected, logits = copied.capture(state, sites, at)
    with model.deltas_in_place(deltas):
        found, now = model.capture(state, sites, at)
    torch.testing.assert_close(now, logits, atol=2e-5, rtol=1e-4)
    for site in sites:
        mask = expected[site].mask
        for side in ("x", "delta"):
            one, other = getattr(found[site], side)[mask], getattr(expected[site], side)[mask]
            torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("kind", ["llava", "opt", "gpt2"])
def test_per_row_edits_and_offsets_come_on_top(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    in_place = random_deltas(model, layers=2, dense=True, n_edits=1)
    own = {
        site: DenseDelta(delta.dense().flip(1) * 0.5)
        for site, delta in random_deltas(model, layers=2, dense=True, n_edits=2).items()
    }
    copied, at, state = edited(model, in_place, 0), rows.answers(), model.prefix(rows, LOWEST)
    asked = {"deltas": own, "edit_index": rows.edit_index, "at": at}
    module, every = model.linear(Site(LOWEST, "mlp_out")), torch.arange(len(rows))
    offset = torch.ones(len(rows), module_width(model))
    with model.deltas_in_place(in_place):
        found = model.suffix(state, **asked)
        with add_to_output(module, every, every, offset, len(rows)):
            moved = model.suffix(state)
    with add_to_output(copied.linear(Site(LOWEST, "mlp_out")), every, every, offset, len(rows)):
        expected = copied.suffix(state)
    torch.testing.assert_close(found, copied.suffix(state, **asked), atol=5e-5, rtol=1e-3)
    real = rows.attention_mask
    torch.testing.assert_close(moved[real], expected[real], atol=5e-5, rtol=1e-3)


def module_width(model: EditableModel) -> int:
    return linear_weight(model.linear(Site(LOWEST, "mlp_out"))).shape[0]


def test_blocks_can_be_nested_and_leave_nothing_behind() -> None:
    model, rows = llava(), rows_for("llava")
    one = random_deltas(model, layers=2, dense=True, n_edits=1)
    other = random_deltas(model, layers=1, dense=False, n_edits=1)
    twice, at = edited(edited(model, one, 0), other, 0), rows.answers()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    expected, unedited = twice(rows, at=at), model(rows, at=at)
    hooks, site = all_hooks(model), model.last_sites(1)[0]
    with model.deltas_in_place(one), model.deltas_in_place(other):
        torch.testing.assert_close(model(rows, at=at), expected, atol=5e-5, rtol=1e-4)
        torch.testing.assert_close(model.weight(site), linear_weight(twice.linear(site)))
    with pytest.raises(ZeroDivisionError), model.deltas_in_place(one), model.deltas_in_place(other):
        _ = 1 / 0
    assert all_hooks(model) == hooks
    assert torch.equal(model(rows, at=at), unedited)
    assert torch.equal(model.weight(site), linear_weight(model.linear(site)))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_several_edits_side_by_side_cannot_be_in_place() -> None:
    model = llava()
    hooks = all_hooks(model)
    deltas = random_deltas(model, layers=1, dense=True, n_edits=2)
    with pytest.raises(ModelError, match="join them"), model.deltas_in_place(deltas):
        pass
    assert all_hooks(model) == hooks
    assert torch.equal(
        model.weight(model.last_sites(1)[0]), linear_weight(model.linear(model.last_sites(1)[0]))
    )


def test_a_small_update_in_place_counts_beside_a_bfloat16_weight() -> None:
    model = llava(dtype=torch.bfloat16)
    site = model.last_sites(1)[0]
    d_out, d_in = linear_weight(model.linear(site)).shape
    model.linear(site).weight.fill_(1.25)
    x = torch.ones(1, d_in, dtype=torch.bfloat16)
    x[:, ::2] = -1  # the layer itself puts out 0
    update = 3e-3 * x.float().expand(1, d_out, d_in)  # below half an ulp of 1.25 in bfloat16
    with model.deltas_in_place({site: DenseDelta(update)}):
        weight, moved = model.weight(site), model.linear(site)(x).float()
    torch.testing.assert_close(weight, 1.25 + update[0])
    torch.testing.assert_close(moved[0], torch.full((d_out,), d_in * 3e-3), rtol=0.01, atol=0)


def low_rank(rank: int, seed: int) -> LowRankDelta:
    draw = torch.Generator().manual_seed(seed)
    return LowRankDelta(
        torch.randn(1, rank, 6, generator=draw), torch.randn(1, rank, 4, generator=draw)
    )


@pytest.mark.parametrize(
    ("first", "then", "kind"),
    [
        (low_rank(1, 0), low_rank(1, 1), LowRankDelta),
        (low_rank(1, 0), low_rank(2, 1), DenseDelta),  # 3 (6 + 4) numbers are more than 6 x 4
        (low_rank(1, 0), DenseDelta(low_rank(3, 1).dense()), DenseDelta),
        (DenseDelta(low_rank(3, 1).dense()), low_rank(1, 0), DenseDelta),
        (DenseDelta(low_rank(3, 0).dense()), DenseDelta(low_rank(3, 1).dense()), DenseDelta),
    ],
    ids=["factors", "too many factors", "dense last", "dense first", "dense"],
)
def test_joined_deltas_are_their_sum(first: object, then: object, kind: type) -> None:
    both = join_deltas(first, then)  # type: ignore[arg-type]
    assert isinstance(both, kind)
    expected = first.dense() + then.dense()  # type: ignore[attr-defined]
    torch.testing.assert_close(both.dense(), expected, **EXACT)
    x = torch.randn(1, 5, 6, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(both(x), x @ expected.mT, **EXACT)
