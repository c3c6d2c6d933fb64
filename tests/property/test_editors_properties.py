"""What must hold for any batch of edits."""

from __future__ import annotations

import copy
from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from editors.base import DeltaEdit, Editor
from editors.mend.statistics import EPSILON, RunningStatistics
from models.deltas import DenseDelta, Groups, LowRankDelta, Site
from models.editable import EditableModel
from models.factors import Factors
from models.rows import EditBatch
from tests.builders import any_model, edit_batch
from tests.editors import fine_tune, mend

SOME = settings(max_examples=12, deadline=None)


@cache
def model_and_editors(kind: str) -> tuple[EditableModel, dict[str, Editor]]:
    model = any_model(kind)
    trained = mend(model, layers=2, rank=4, edit_lr=1e-2)
    batch = edit_batch(range(40, 46), pictures=kind == "llava")
    trained.edit(model, batch, model.prefix(batch.rows, 1))
    return model, {"mend": trained.eval(), "ft": fine_tune(steps=5, lr=1e-3)}


def dense(kind: str, name: str, batch: EditBatch) -> dict[object, Tensor]:
    model, editors = model_and_editors(kind)
    editor = editors[name]
    edit = editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
    assert isinstance(edit, DeltaEdit)
    return {site: delta.dense().detach() for site, delta in edit.deltas.items()}


@SOME
@given(
    kind=st.sampled_from(["llava", "opt"]),
    name=st.sampled_from(["mend", "ft"]),
    numbers=st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True),
    data=st.data(),
)
def test_permuting_and_splitting_a_batch_changes_no_edit(
    kind: str, name: str, numbers: list[int], data: st.DataObject
) -> None:
    pictures = kind == "llava"
    whole = dense(kind, name, edit_batch(numbers, pictures=pictures))
    mixed = data.draw(st.permutations(numbers))
    cut = data.draw(st.integers(1, len(mixed) - 1))
    for part in (mixed[:cut], mixed[cut:]):
        again = dense(kind, name, edit_batch(part, pictures=pictures))
        for site, deltas in whole.items():
            expected = deltas[[numbers.index(number) for number in part]]
            difference = (again[site] - expected).abs().max()
            assert difference <= 1e-4 * expected.abs().max()


@SOME
@given(
    kind=st.sampled_from(["llava", "gpt2", "opt"]),
    number=st.integers(0, 30),
    rate=st.floats(1e-3, 1.0),
)
def test_identity_mend_without_normalisation_is_a_gradient_step(
    kind: str, number: int, rate: float
) -> None:
    model, _ = model_and_editors(kind)
    batch = edit_batch([number], pictures=kind == "llava")
    editor = mend(model, layers=2, rank=4, normalise=False, edit_lr=rate, sign="descent").eval()
    edit = editor.edit(model, batch, model.prefix(batch.rows, 1))
    copied = copy.deepcopy(model)
    own = batch.rows.select(batch.edit_rows)
    at = own.answers()
    for site in editor.sites:
        copied.linear(site).weight.requires_grad_(True)
    F.cross_entropy(copied(own, at=at), at.target).backward()
    for site, delta in edit.deltas.items():
        linear = copied.linear(site)
        gradient = linear.weight.grad
        if kind == "gpt2":  # Conv1D keeps (in, out)
            gradient = gradient.mT
        expected = -rate * gradient
        assert (delta.dense()[0] - expected).abs().max() <= 1e-5 * expected.abs().max()


@SOME
@given(kind=st.sampled_from(["llava", "gpt2", "opt"]), number=st.integers(0, 30))
def test_identity_mend_is_the_normalised_gradient_step(kind: str, number: int) -> None:
    """Both factors of dL/dW, each coordinate brought to mean 0 and deviation 1, and their sum."""
    model, _ = model_and_editors(kind)
    editor = mend(model, layers=1, rank=4, edit_lr=0.3, sign="descent").train()
    seen = edit_batch([number + 1, number + 2], pictures=kind == "llava")
    editor.edit(model, seen, model.prefix(seen.rows, 2))  # statistics of other edits
    editor.eval()
    batch = edit_batch([number], pictures=kind == "llava")
    state = model.prefix(batch.rows, 2)
    deltas = editor.edit(model, batch, state).deltas

    def factors(one: EditBatch) -> dict[Site, Factors]:
        own, before = one.rows.select(one.edit_rows), model.prefix(one.rows, 2)
        return model.capture(before.select(one.edit_rows), editor.sites, own.answers())[0]

    def normalised(now: Tensor, then: Tensor, mask: Tensor) -> Tensor:
        tokens = then[mask]
        return (now - tokens.mean(0)) / (tokens.std(0) + 1e-7)

    now, then = factors(batch), factors(seen)
    for site, delta in deltas.items():
        x = normalised(now[site].x[0], then[site].x, then[site].mask)
        step = normalised(now[site].delta[0], then[site].delta, then[site].mask)
        expected = -0.3 * torch.einsum("td,te->de", step, x)
        difference = (delta.dense()[0] - expected).abs().max()
        assert difference <= 1e-4 * expected.abs().max()


@SOME
@given(
    cuts=st.lists(st.integers(0, 40), max_size=4),
    scale=st.floats(1e-4, 1e3),
    shift=st.floats(-10, 10),
    seed=st.integers(0, 1000),
)
def test_merged_statistics_equal_token_by_token_ones(
    cuts: list[int], scale: float, shift: float, seed: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    tokens = torch.randn(40, 5, generator=draw, dtype=torch.float64) * scale + shift
    merged, single = RunningStatistics(5).double(), RunningStatistics(5).double()
    for part in torch.tensor_split(tokens, sorted(cuts)):
        merged.update(part)
    for token in tokens:
        single.update(token[None])
    assert int(merged.count) == int(single.count) == 40
    torch.testing.assert_close(merged.mean, tokens.mean(0))
    torch.testing.assert_close(merged.std, tokens.std(0))
    torch.testing.assert_close(single.mean, merged.mean)
    torch.testing.assert_close(single.std, merged.std)
    expected = (tokens - tokens.mean(0)) / (tokens.std(0) + EPSILON)
    torch.testing.assert_close(merged.normalise(tokens), expected)


@SOME
@given(edits=st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_groups_join_what_they_split(edits: list[int]) -> None:
    groups = Groups(torch.tensor(edits), 6)
    items = torch.randn(len(edits), 3)
    split = groups.split(items)
    assert torch.equal(groups.join(split), items)
    for edit in range(6):
        mine = items[torch.tensor(edits) == edit]
        assert torch.equal(split[edit][groups.mask[edit]], mine)


@SOME
@given(
    edits=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    n_tokens=st.integers(1, 4),
    rank=st.integers(1, 4),
    present=st.booleans(),
)
def test_groups_move_every_item_by_its_edit(
    edits: list[int], n_tokens: int, rank: int, present: bool
) -> None:
    draw = torch.Generator().manual_seed(len(edits))

    def numbers(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    of = torch.tensor(edits)
    groups = Groups(of, 6, present=present)
    items, pairs = (
        numbers(len(of), n_tokens, 3),
        LowRankDelta(numbers(6, rank, 3), numbers(6, rank, 5)),
    )
    whole = pairs.dense()
    expected = items @ whole[of].mT
    for delta in (pairs, DenseDelta(whole)):
        torch.testing.assert_close(groups.moved(delta, items), expected)
