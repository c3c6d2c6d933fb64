"""MEMIT and AlphaEdit against the slow reference of slow_memit.py, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.memit.editor import KeyedEdit, Memit
from editors.ridge import solve_bytes
from editors.turn import Turn
from errors import ModelError
from models.budget import MemoryBudget
from models.deltas import Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.rows import Rows
from tests.editors import memit, rome
from tests.parity.double_precision import in_float64
from tests.parity.slow_memit import SlowMemit
from tests.rome_cases import KINDS, PREFIXES, batch_of, model_and_encoder

pytestmark = pytest.mark.parity
LAYERS = 4
FIVE = (0, 1, 2, 3, 5)
SHORT: dict[str, Any] = {
    "layers": [0, 1, 2], "steps": 5, "lr": 0.5, "weight_decay": 0.1, "clamp": 0.75, "kl": 0.5,
    "ridge": 0.3,
}  # fmt: skip
CLOSE = {"rtol": 1e-7, "atol": 1e-9}


@pytest.fixture(autouse=True, scope="module")
def _float64() -> Iterator[None]:
    """Norms too, which transformers has in float32 otherwise."""
    with in_float64():
        yield


def prepared(kind: str) -> tuple[EditableModel, PromptEncoder]:
    model, encoder = model_and_encoder(kind, layers=LAYERS)
    return model.double(), encoder


def moments(model: EditableModel, layers: Sequence[int]) -> dict[int, Tensor]:
    """Of some keys with most of their weight in half of the directions."""
    found = {}
    for layer in layers:
        width, _ = linear_shape(model.linear(Site(layer, "mlp_out")))
        draw = torch.Generator().manual_seed(layer)
        keys = torch.randn(4 * width, width, generator=draw, dtype=torch.float64)
        keys[:, ::2] *= 0.1
        found[layer] = keys.mT @ keys / len(keys)
    return found


def turn_of(
    model: EditableModel, encoder: PromptEncoder, layer: int, *parts: Sequence[int]
) -> Turn:
    """The facts of all parts as one turn, read part by part."""
    taught = [batch_of(encoder, part).teaching() for part in parts]
    read = [(batch, model.prefix(batch.rows, layer)) for batch in taught]
    return Turn(sum(map(len, taught)), lambda: read)


def assert_same(edit: Any, number: int, updates: Mapping[int, Tensor]) -> None:
    assert {site.layer for site in edit.deltas} == set(updates)
    for site, delta in edit.deltas.items():
        expected = updates[site.layer]
        scale = float(expected.abs().max())
        assert scale > 1e-6
        torch.testing.assert_close(delta.dense()[number] / scale, expected / scale, **CLOSE)


VARIANTS = {
    "identity": {},
    "second moments": {"moment": True, "ridge": 2.0},
    "null space": {"moment": True, "null_space": True, "threshold": 0.1},
    "layers apart": {"layers": [0, 2], "moment": True},
    "one layer": {"layers": [1], "prefixes": ()},
    "prompt's last token": {"fact_token": "last", "layers": [1, 3]},
}


def both(
    model: EditableModel, encoder: PromptEncoder, changes: Mapping[str, Any]
) -> tuple[Memit, SlowMemit]:
    given = SHORT | changes
    prefixes = given.pop("prefixes", PREFIXES)
    found = moments(model, given["layers"]) if given.pop("moment", False) else {}
    editor = memit(encoder, prefixes, found, **given)
    return editor, SlowMemit(model, encoder, editor.options, prefixes, found)


@pytest.mark.parametrize(
    ("kind", "variant"),
    [*((kind, "second moments") for kind in KINDS), *(("llama", name) for name in VARIANTS)],
)
def test_single_edits_and_a_turn_are_those_of_the_slow_reference(kind: str, variant: str) -> None:
    model, encoder = prepared(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    editor, slow = both(model, encoder, VARIANTS[variant])
    first = editor.first_layer(model)
    batch = batch_of(encoder, (4, 1), pictures=kind == "llava")
    alone = editor.edit(model, batch, model.prefix(batch.rows, first))
    for number, fact in enumerate(batch.edit_ids):
        _, slow = both(model, encoder, VARIANTS[variant])
        slow.write([fact])
        assert_same(alone, number, slow.updates)
    _, slow = both(model, encoder, VARIANTS[variant])
    slow.write(FIVE)
    turn = turn_of(model, encoder, first, FIVE[:2], FIVE[2:])
    together = editor.edit_together(model, turn, None)
    assert_same(together, 0, slow.updates)
    at, rows = batch.rows.answers(), batch.rows
    state = model.prefix(rows, first)
    under = torch.zeros_like(rows.edit_index)
    with torch.no_grad():
        said = model.suffix(state, deltas=together.deltas, edit_index=under, at=at)
        torch.testing.assert_close(said, slow.model(rows, at=at), **CLOSE)
        assert (said - model(rows, at=at)).abs().max() > 1e-3
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.decoder.layers.modules())


def test_a_turn_of_one_is_the_edit_of_one() -> None:
    model, encoder = prepared("opt")
    editor, _ = both(model, encoder, VARIANTS["second moments"])
    batch = batch_of(encoder, (3,))
    alone = editor.edit(model, batch, model.prefix(batch.rows, 0))
    together = editor.edit_together(model, turn_of(model, encoder, 0, (3,)), None)
    assert_same(together, 0, {s.layer: d.dense()[0] for s, d in alone.deltas.items()})


@pytest.mark.parametrize("null_space", [True, False])
def test_two_turns_leave_the_keys_of_the_first_alone_in_the_null_space(null_space: bool) -> None:
    model, encoder = prepared("llama")
    changes = {"moment": True, "null_space": null_space, "threshold": 0.1}
    editor, slow = both(model, encoder, changes)
    slow.write((0, 1, 2))
    first = editor.edit_together(model, turn_of(model, encoder, 0, (0, 1), (2,)), None)
    assert isinstance(first, KeyedEdit) == null_space
    slow.write((3, 4))
    later = turn_of(model, encoder, 0, (3, 4))
    with first.in_place(model):
        second = editor.edit_together(model, later, first)
        forgetful = editor.edit_together(model, later, None)
    assert_same(second, 0, slow.updates)
    site = Site(1, "mlp_out")
    carries = (second.deltas[site].dense() - forgetful.deltas[site].dense()).abs().max() > 1e-3
    assert bool(carries) == null_space
    both_turns = second.after(first)
    slow_weight = slow.model.weight(site) - model.weight(site)
    torch.testing.assert_close(both_turns.deltas[site].dense()[0], slow_weight, **CLOSE)
    if isinstance(first, KeyedEdit):
        assert isinstance(both_turns, KeyedEdit)
        assert both_turns.keys[site].shape[:2] == (1, 5)
        assert torch.equal(both_turns.keys[site][:, :3], first.keys[site])


def test_a_turn_without_room_says_how_many_facts_fit() -> None:
    """Keys of earlier turns take room as well."""
    model, encoder = prepared("llama")
    editor, _ = both(model, encoder, VARIANTS["null space"])
    first = editor.edit_together(model, turn_of(model, encoder, 0, (0, 1)), None)
    model.budget = MemoryBudget(free=solve_bytes(2, 24), device="this GPU")
    editor.edit_together(model, turn_of(model, encoder, 0, (3, 4)), None)
    message = r"2 edits with 2 keys beside 2 of earlier .* this GPU .* fewer edits in all"
    with pytest.raises(ModelError, match=message):
        editor.edit_together(model, turn_of(model, encoder, 0, (3, 4)), first)


def test_little_memory_changes_no_edit() -> None:
    model, encoder = prepared("llama")
    editor, _ = both(model, encoder, VARIANTS["null space"])
    batch = batch_of(encoder, FIVE)
    state = model.prefix(batch.rows, 0)
    whole = editor.edit(model, batch, state)
    model.budget = MemoryBudget(1)
    parts = editor.edit(model, batch, state)
    for number in range(len(FIVE)):
        expected = {s.layer: d.dense()[number] for s, d in whole.deltas.items()}
        assert_same(parts, number, expected)
    assert isinstance(parts, KeyedEdit)
    assert isinstance(whole, KeyedEdit)
    for site, keys in whole.keys.items():
        torch.testing.assert_close(parts.keys[site], keys, **CLOSE)


def test_prompts_without_room_are_read_anew_for_each_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    """The update is the same, and no more states are held than have room."""
    model, encoder = prepared("llama")
    editor, slow = both(model, encoder, VARIANTS["null space"])
    slow.write(FIVE)
    turn = turn_of(model, encoder, 0, *([number] for number in FIVE))
    sizes = [
        memories.state.nbytes
        for batch, _ in turn
        for memories in editor._memories(model, batch)
        if memories.state is not None
    ]
    read: list[int] = []

    def prefix(rows: Rows, layer: int, **options: Any) -> PrefixState:
        read.append(len(rows))
        return EditableModel.prefix(model, rows, layer, **options)

    monkeypatch.setattr(model, "prefix", prefix)
    for n_held in (5, 3, 0):
        read.clear()
        model.budget = MemoryBudget(4 * sum(sizes[:n_held]) + 4)
        assert_same(editor.edit_together(model, turn, None), 0, slow.updates)
        reads = [rows for rows in read if rows == 1 + len(PREFIXES)]
        assert len(reads) == len(FIVE) + len(SHORT["layers"]) * (len(FIVE) - n_held)


def test_one_layer_without_a_ridge_is_rome() -> None:
    """With lambda -> 0 and no prefix both map the key to the value, in the direction of C^-1 k.

    ROME's offset is added to what the matrix says, MEMIT's to the stream: the same one where
    neither decay nor clamp weighs it by what it is added to.
    """
    model, encoder = prepared("llama")
    moment = moments(model, [1])[1]
    descent = {"steps": 6, "lr": 0.1, "weight_decay": 0.0, "clamp": 1e6, "kl": 0.5}
    batch, site = batch_of(encoder, (0, 2, 4)), Site(1, "mlp_out")
    state = model.prefix(batch.rows, 1)
    by_rome = rome(encoder, (), moment, layer=1, **descent).edit(model, batch, state)
    editor = memit(encoder, (), {1: moment}, layers=[1], ridge=1e-9, **descent)
    by_memit = editor.edit(model, batch, state)
    ours, theirs = (edit.deltas[site].dense() for edit in (by_memit, by_rome))
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
    ridged = memit(encoder, (), {1: moment}, layers=[1], ridge=50.0, **descent)
    weaker = ridged.edit(model, batch, state).deltas[site].dense()
    cosine = torch.cosine_similarity(weaker.flatten(1), theirs.flatten(1))
    torch.testing.assert_close(cosine, torch.ones_like(cosine))  # of any lambda, the direction
    assert bool((weaker.flatten(1).norm(dim=1) < 0.9 * theirs.flatten(1).norm(dim=1)).all())
