"""Edits that several rows teach, against autograd over the rows of one edit at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from editors.lora.editor import Lora
from editors.teaching import Lessons, Teaching
from models.deltas import Delta, DenseDelta, Site
from models.editable import EditableModel
from models.factors import Factors
from models.rows import Answers, EditBatch
from tests.builders import Prompt, any_model, rows_of
from tests.editors import editor_options, fine_tune

N_ROWS = (2, 1, 3)  # that teach each edit
STEPS, LR = 6, 5e-3


def batch_of(*, padding: str = "right") -> EditBatch:
    """Three edits, the rows of each of which begin alike, so that a sequence holds several."""
    prompts: list[Prompt] = []
    draw = torch.Generator().manual_seed(0)
    for edit, n_rows in enumerate(N_ROWS):
        for row in range(n_rows):
            end = torch.randint(4, 40, (3 + row,), generator=draw).tolist()
            picture = edit if row == 1 else None
            prompts.append(Prompt((5, 6, 7, 8, *end), 1 + row, edit, picture))
        prompts.append(Prompt((5, 6, 9, 9 + edit, 12), 2, edit))  # a probe
    edits = torch.tensor([prompt.edit for prompt in prompts])
    taught = [row for row, prompt in enumerate(prompts) if prompt.tokens[2] == 7]
    return EditBatch(
        rows=rows_of(prompts, padding=padding),
        edit_rows=torch.tensor(taught),
        probes={"reliability": (edits >= 0).nonzero().squeeze(1)},
        edit_ids=(0, 1, 2),
        subjects=("a", "b", "c"),
    )


def own_rows(batch: EditBatch, edit: int) -> Tensor:
    return batch.edit_rows[batch.rows.edit_index[batch.edit_rows] == edit]


AsDeltas = Callable[[Sequence[Tensor]], Mapping[Site, Delta]]


def slow_moves(
    model: EditableModel, batch: EditBatch, edit: int, start: Sequence[Tensor], as_deltas: AsDeltas
) -> Mapping[Site, Delta]:
    """Adam on the mean loss of an edit's rows, each read by itself."""
    moves = [torch.zeros(1, *one.shape, requires_grad=True) for one in start]
    adam = torch.optim.Adam(moves, lr=LR)
    for _ in range(STEPS):
        losses = []
        for row in own_rows(batch, edit):
            one = replace(batch.rows.select(row[None]), edit_index=torch.tensor([0]))
            at = one.answers()
            logits = model(one, deltas=as_deltas(moves), at=at)
            losses.append(F.cross_entropy(logits, at.target))
        adam.zero_grad()
        torch.stack(losses).mean().backward()
        adam.step()
    return as_deltas([move.detach() for move in moves])


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", ["ft", "lora"])
def test_descent_is_on_the_mean_loss_of_an_edits_rows(kind: str, layers: int) -> None:
    model, batch = any_model("llava"), batch_of()
    if kind == "ft":
        editor = fine_tune(steps=STEPS, lr=LR, layers=layers)
        sites = model.last_sites(layers)
        start = [torch.zeros_like(model.weight(site)) for site in sites]

        def as_deltas(moves: Sequence[Tensor]) -> Mapping[Site, Delta]:
            return {site: DenseDelta(move) for site, move in zip(sites, moves, strict=True)}
    else:
        options = {"rank": 4, "alpha": 8, "steps": STEPS, "lr": LR, "layers": layers}
        editor = Lora(editor_options("lora", **options))  # type: ignore[assignment, arg-type]
        adapters = editor.adapters(model)  # type: ignore[attr-defined]
        start = [part for one in adapters.values() for part in (one.a, one.b)]

        def as_deltas(moves: Sequence[Tensor]) -> Mapping[Site, Delta]:
            pairs = zip(adapters.items(), moves[::2], moves[1::2], strict=True)
            return {site: adapter.delta(a, b) for (site, adapter), a, b in pairs}

    state = model.prefix(batch.rows, editor.first_layer(model), packed=True)
    made = editor.edit(model, batch, state).deltas
    for edit in range(len(batch)):
        slow = slow_moves(model, batch, edit, start, as_deltas)
        for site, delta in slow.items():
            expected = delta.dense()[0]
            assert expected.abs().max() > 1e-4
            found = made[site].dense()[edit]
            assert (found - expected).abs().max() <= 1e-4 * expected.abs().max(), (edit, site)


@pytest.mark.parametrize("padding", ["right", "left"])
def test_gradients_are_those_of_every_row_by_itself(padding: str) -> None:
    """Whatever the rows share in a sequence, and whatever the padding."""
    model, batch = any_model("llava"), batch_of(padding=padding)
    sites = model.last_sites(2)
    at = batch.rows.select(batch.edit_rows).answers()
    edit = batch.rows.edit_index[batch.edit_rows]
    state = model.prefix(batch.rows, 1, packed=True).select(batch.edit_rows)
    assert sum(len(part.hidden) for part in state.parts) < len(batch.edit_rows)
    factors, _ = model.capture(state, sites, at, edit=edit)
    for number, n_rows in enumerate(N_ROWS):
        for site in sites:
            apart = [
                _alive(model.capture(model.prefix(one, 1), [site], one.answers())[0][site], 0)
                for row in own_rows(batch, number)
                for one in (batch.rows.select(row[None]),)
            ]
            x, delta = (torch.cat(side) for side in zip(*apart, strict=True))
            found_x, found_delta = _alive(factors[site], number)
            torch.testing.assert_close(found_x, x, rtol=1e-5, atol=1e-6)
            torch.testing.assert_close(found_delta, delta / n_rows, rtol=1e-4, atol=1e-7)


def _alive(factors: Factors, edit: int) -> tuple[Tensor, Tensor]:
    """Factors of an edit's tokens that have a gradient, in their order."""
    alive = factors.mask[edit] & (factors.delta[edit] != 0).any(-1)
    return factors.x[edit][alive], factors.delta[edit][alive]


def test_a_selection_keeps_the_rows_of_its_edits_in_their_order() -> None:
    model, batch = any_model("llava"), batch_of()
    teaching = Teaching.of(batch, model.prefix(batch.rows, 1, packed=True))
    some = teaching.select(torch.tensor([2, 0]), apart=True)
    assert some.edit.tolist() == [0, 0, 0, 1, 1]
    assert (some.n_edits, some.most_rows) == (2, 3)
    rows = torch.cat([own_rows(batch, 2), own_rows(batch, 0)])
    own = batch.rows.select(rows)
    assert torch.equal(some.at.target, own.answers().target)
    for whole in (some.state, model.prefix(own, 1)):
        assert len(whole.hidden) == 5
    slow = model.suffix(model.prefix(own, 1), at=own.answers())
    torch.testing.assert_close(model.suffix(some.state, at=some.at), slow, rtol=1e-5, atol=1e-5)


@given(st.lists(st.lists(st.tuples(st.floats(0, 9), st.booleans()), min_size=1), min_size=1))
def test_what_holds_for_an_edit_is_of_all_its_rows(edits: list[list[tuple[float, bool]]]) -> None:
    values = torch.tensor([value for rows in edits for value, _ in rows], dtype=torch.float64)
    flags = torch.tensor([flag for rows in edits for _, flag in rows])
    edit = torch.tensor([number for number, rows in enumerate(edits) for _ in rows])
    nothing = torch.zeros(len(edit), dtype=torch.int64)
    at = Answers(torch.arange(len(edit)), nothing, nothing, len(edit))
    teaching = Lessons(at, edit, len(edits))
    means = [sum(value for value, _ in rows) / len(rows) for rows in edits]
    torch.testing.assert_close(teaching.mean(values), torch.tensor(means, dtype=torch.float64))
    assert teaching.every(flags).tolist() == [all(flag for _, flag in rows) for rows in edits]
    assert teaching.most_rows == max(map(len, edits))
