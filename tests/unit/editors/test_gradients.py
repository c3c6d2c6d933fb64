"""Keys and value gradients of answer tokens, against those of every row by itself."""

from __future__ import annotations

import pytest
import torch

from editors.gradients import EditTokens, answer_tokens, turn_tokens
from editors.turn import Turn
from models.deltas import Site
from models.editable import EditableModel
from models.factors import Factors
from models.rows import EditBatch
from tests.builders import any_model, edit_batch


def slow_tokens(
    model: EditableModel, sites: list[Site], batch: EditBatch
) -> dict[Site, EditTokens]:
    """One row at a time, all tokens captured, and those picked that predict the answer."""
    of_rows = []
    for number, row in enumerate(batch.edit_rows):
        one = batch.rows.select(row[None])
        at = one.answers()
        factors, _ = model.capture(model.prefix(one, 0), sites, at)
        of_row = {}
        for site in sites:
            x, delta = factors[site].x[0], factors[site].delta[0]
            if site.layer < model.n_layers - 1:  # of the last layer they are the answer's alone
                x, delta = x[at.position], delta[at.position]
            of_row[site] = (x, delta, torch.full_like(at.row, number))
        of_rows.append(of_row)
    sides = {site: zip(*(of_row[site] for of_row in of_rows), strict=True) for site in sites}
    return {site: EditTokens(*map(torch.cat, of_site)) for site, of_site in sides.items()}


def assert_same(got: EditTokens, expected: EditTokens) -> None:
    assert torch.equal(got.edit, expected.edit)
    torch.testing.assert_close(got.keys, expected.keys, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.gradients, expected.gradients, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "padding"), [("llava", "right"), ("llava", "left"), ("gpt2", "right"), ("opt", "left")]
)
def test_answer_tokens_are_those_of_every_row_by_itself(kind: str, padding: str) -> None:
    model = any_model(kind).double()
    pictures, sites = kind == "llava", model.last_sites(3)
    batch = edit_batch([3, 8, 5], pictures=pictures, padding=padding, extra=2)
    state = model.prefix(batch.rows, 0, packed=True)
    got = answer_tokens("malmen", model, sites, batch, state)
    for site, expected in slow_tokens(model, sites, batch).items():
        assert len(expected) == int(batch.rows.answer_mask[batch.edit_rows].sum())
        assert_same(got[site], expected)


def test_a_turn_is_read_in_parts() -> None:
    model = any_model("llama").double()
    sites = model.last_sites(2)
    parts = [edit_batch(numbers) for numbers in ([3, 8], [5], [1, 2])]
    turn = Turn(5, lambda: ((part, model.prefix(part.rows, 1)) for part in parts))
    got = turn_tokens("malmen", model, sites, turn)
    whole = edit_batch([3, 8, 5, 1, 2])
    for site, expected in slow_tokens(model, sites, whole).items():
        assert_same(got[site], expected)


def test_tokens_without_a_gradient_are_left_out() -> None:
    """The model is sure of one answer token, whose gradient is then zero."""
    keys = torch.ones(2, 3, 4)
    keys[1, 0] = 0
    gradients = torch.ones(2, 3, 5)
    gradients[0, 1] = 0
    mask = torch.tensor([[True, True, True], [True, True, False]])
    tokens = EditTokens.of(Factors(keys, gradients, mask))
    assert tokens.edit.tolist() == [0, 0, 1]
    assert len(tokens) == 3
