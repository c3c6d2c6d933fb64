"""Edits in sequence over a base in 8 and 4 bits."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from editors.base import DeltaEdit
from models.deltas import linear_weight
from models.editable import EditableModel, PrefixState
from models.loading import load_model
from models.quantisation import Quantise
from models.rows import EditBatch
from tests.builders import edit_batch
from tests.editors import fine_tune
from tests.unit.models.test_quantisation import KINDS, saved


def loss(
    model: EditableModel, batch: EditBatch, state: PrefixState, edits: DeltaEdit | None
) -> float:
    """NLL of the edit's own answer with some edits in place."""
    at = batch.rows.answers()
    own = torch.isin(at.row, batch.edit_rows)
    with torch.no_grad(), nullcontext() if edits is None else edits.in_place(model):
        logits = model.suffix(state, at=at)
    return float(F.cross_entropy(logits[own], at.target[own]))


@pytest.mark.parametrize("kind", KINDS)
def test_quantised_layers_hold_edits(kind: Quantise, tmp_path: Path) -> None:
    model = load_model("llava", saved("llava", tmp_path), quantise=kind)
    before = {key: value.clone() for key, value in model.hf.state_dict().items()}
    editor = fine_tune(steps=10, optimizer="adamw", lr=1e-2, layers=2, weight_decay=0.1)
    kept: DeltaEdit | None = None
    for number in (1, 2):
        batch = edit_batch([number], pictures=True)
        state = model.prefix(batch.rows, editor.first_layer(model))
        with nullcontext() if kept is None else kept.in_place(model):
            edit = editor.edit(model, batch, state)
        then = edit.after(kept)
        assert loss(model, batch, state, then) < 0.5 * loss(model, batch, state, kept)
        kept = then
    assert kept is not None
    with kept.in_place(model):
        for site, delta in kept.deltas.items():
            expected = linear_weight(model.linear(site)) + delta.dense()[0]
            torch.testing.assert_close(model.weight(site), expected)
    after = model.hf.state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
