"""What must hold for SERAC whatever it is asked, and whoever is asked along with it."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from editors.serac.editor import Serac
from editors.serac.memory import Entry, Memory
from editors.serac.similarity import (
    EPSILON,
    balanced_bce,
    log_one_minus,
    log_similarity,
    mix_hard,
    mix_soft,
    retrieve,
)
from models.editable import EditableModel
from models.rows import EditBatch
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch

SOME = settings(max_examples=12, deadline=None)
numbers = st.lists(st.integers(0, 30), min_size=2, max_size=5, unique=True)
modes = st.sampled_from(["embedding", "cross_attention"])
combines = st.sampled_from(["soft", "hard"])


@cache
def model_and_editor(mode: str, combine: str) -> tuple[EditableModel, Serac]:
    model = picture_model()
    scope = {"mode": mode, "image": mode == "embedding", "threshold": 0.4}
    return model, stirred(model, combine=combine, scope=scope)


def answers(model: EditableModel, editor: Serac, batch: EditBatch) -> tuple[Tensor, Tensor]:
    """Logits (N, V) of all answer tokens, and the base model's."""
    batch = looked(model, batch)
    edit, state = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        return edit.answer(model, batch.rows, state, at), model.suffix(state, at=at)


def by_question(model: EditableModel, editor: Serac, batch: EditBatch) -> dict[object, Tensor]:
    """(edit, what the row says, its picture's number) -> probabilities (n, V)."""
    found, _ = answers(model, editor, batch)
    at = batch.rows.answers()
    assert batch.rows.pixel_values is not None
    named: dict[object, Tensor] = {}
    for row, text in enumerate(batch.rows.texts):
        shown = int(batch.rows.image_index[row])
        picture = None if shown < 0 else float(batch.rows.pixel_values[shown].sum())
        edit = batch.edit_ids[int(batch.rows.edit_index[row])]
        named[edit, text, picture] = found[at.row == row].softmax(-1)
    return named


@SOME
@given(chosen=numbers, mode=modes, combine=combines, data=st.data())
def test_permuting_and_splitting_a_batch_changes_no_answer(
    chosen: list[int], mode: str, combine: str, data: st.DataObject
) -> None:
    model, editor = model_and_editor(mode, combine)
    whole = by_question(model, editor, worded_batch(chosen, pictures=True))
    mixed = data.draw(st.permutations(chosen))
    cut = data.draw(st.integers(1, len(mixed) - 1))
    parts: dict[object, Tensor] = {}
    for part in (mixed[:cut], mixed[cut:]):
        parts |= by_question(model, editor, worded_batch(part, pictures=True))
    assert parts.keys() == whole.keys()
    for name, expected in whole.items():
        torch.testing.assert_close(parts[name], expected, rtol=1e-4, atol=1e-6)


@SOME
@given(chosen=numbers, mode=modes, combine=combines, pictures=st.booleans())
def test_the_base_model_is_the_same_bit_for_bit(
    chosen: list[int], mode: str, combine: str, pictures: bool
) -> None:
    model, editor = model_and_editor(mode, combine)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    answers(model, editor, worded_batch(chosen, pictures=pictures))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@SOME
@given(chosen=numbers, combine=combines, pictures=st.booleans())
def test_out_of_scope_is_the_base_and_in_scope_the_counterfactual_model(
    chosen: list[int], combine: str, pictures: bool
) -> None:
    model, _ = model_and_editor("embedding", combine)
    editor = stirred(model, combine=combine)
    batch = looked(model, worded_batch(chosen, pictures=pictures))
    edit, _ = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        theirs = edit.counterfactual(batch.rows, at, batch.rows.edit_index)
        editor.scope.log_scale.fill_(20.0)  # exp(-distance) is 0
        outside, base = answers(model, editor, batch)
        editor.scope.log_scale.fill_(-40.0)  # exp(-distance) is 1
        inside, _ = answers(model, editor, batch)
    if combine == "hard":
        assert torch.equal(outside, base)
        torch.testing.assert_close(inside, theirs)
        return
    torch.testing.assert_close(outside.exp(), base.softmax(-1) + EPSILON)
    torch.testing.assert_close(inside.exp(), theirs.softmax(-1) + EPSILON)


@SOME
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5), st.sampled_from([4, 8])),
    size=st.floats(0, 100),
    seed=st.integers(0, 1000),
    kind=st.sampled_from(
        [{"distance": d, "bound": b, "heads": h}
         for d in ("square", "l2", "cos") for b in (False, True) for h in (1, 2, 4)]
    ),
)  # fmt: skip
def test_similarities_are_log_probabilities(
    shape: tuple[int, int, int], size: float, seed: int, kind: dict[str, Any]
) -> None:
    n, m, d = shape
    draw = torch.Generator().manual_seed(seed)
    queries, entries = (size * torch.randn(k, d, generator=draw) for k in (n, m))
    queries.requires_grad_(True)
    found = log_similarity(queries, entries, **kind)
    assert found.shape == (n, m)
    assert bool((found <= 0).all())
    torch.testing.assert_close(log_similarity(entries, queries, **kind).mT, found)
    places = torch.randperm(m, generator=draw)
    torch.testing.assert_close(log_similarity(queries, entries[places], **kind), found[:, places])
    inside = torch.rand(n, m, generator=draw) < 0.5
    loss = balanced_bce(found.flatten(), inside.flatten())
    loss.backward()
    assert bool(loss.isfinite())
    assert queries.grad is not None
    assert bool(queries.grad.isfinite().all())


@SOME
@given(
    log_p=st.lists(st.floats(-2000, 0), min_size=1, max_size=8),
    seed=st.integers(0, 1000),
    threshold=st.floats(0.01, 0.99),
)
def test_mixtures_are_distributions_between_both_models(
    log_p: list[float], seed: int, threshold: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    base, theirs = (10 * torch.randn(len(log_p), 7, generator=draw).double() for _ in "ab")
    log_scope = torch.tensor(log_p, dtype=torch.float64)
    mixed = mix_soft(base, theirs, log_scope).exp() - EPSILON
    torch.testing.assert_close(mixed.sum(-1), torch.ones(len(log_p), dtype=torch.float64))
    both = torch.stack([base.softmax(-1), theirs.softmax(-1)])
    assert bool((mixed >= both.amin(0) - 1e-12).all())
    assert bool((mixed <= both.amax(0) + 1e-12).all())
    hard = mix_hard(base, theirs, log_scope, threshold)
    for row, log_one in enumerate(log_scope):
        expected = theirs if float(log_one.exp()) > threshold else base
        assert torch.equal(hard[row], expected[row])
    rest = log_one_minus(log_scope)
    torch.testing.assert_close(rest.exp(), (1 - log_scope.exp()).clamp(min=EPSILON))
    near = torch.full((1,), -1e-20, requires_grad=True)
    log_one_minus(near).sum().backward()
    assert near.grad is not None
    assert float(near.grad.abs()) < 1 / EPSILON


@SOME
@given(
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 6)),
    seed=st.integers(0, 1000),
    more=st.integers(0, 3),
)
def test_entries_that_a_query_may_not_see_do_not_matter(
    sizes: tuple[int, int], seed: int, more: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    alike = -torch.rand(*sizes, generator=draw)
    hidden = -torch.rand(sizes[0], more, generator=draw) * 0.01
    allowed = torch.cat([torch.ones(sizes), torch.zeros(sizes[0], more)], 1).bool()
    found = retrieve(torch.cat([alike, hidden], 1), allowed)
    expected = retrieve(alike)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    nothing = retrieve(alike, torch.zeros(sizes).bool())[0]
    assert bool((nothing == -torch.inf).all())


@SOME
@given(kept=st.lists(st.integers(0, 5), unique=True), seed=st.integers(0, 5))
def test_an_edit_taken_back_leaves_the_memory_as_before(kept: list[int], seed: int) -> None:
    model, editor = model_and_editor("embedding", "soft")
    entries = [Entry(f"Where is {place}?", f"Lisburg {place}") for place in range(6)]
    memory = Memory([entries[place] for place in kept])
    grown = memory.add(Entry("Who founded Lisburg?", f"Tama {seed}"))
    assert grown.remove(len(kept)).entries == memory.entries
    batch = worded_batch([seed, seed + 1])
    asked = (model, batch.rows, model.prefix(batch.rows, editor.first_layer(model)))
    with torch.no_grad():
        before = editor.recall(memory).scope_probabilities(*asked)
        after = editor.recall(grown).scope_probabilities(*asked)
        back = editor.recall(grown.remove(len(kept))).scope_probabilities(*asked)
    assert bool((after >= before - 1e-6).all())  # one entry more can only fire more
    assert torch.equal(back, before)
