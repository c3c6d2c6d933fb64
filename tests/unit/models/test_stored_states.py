"""Prefix states and unedited answers from the cache: equal numbers, and nothing computed twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from caching.entries import Tensors
from caching.store import Cache
from models.cache_scope import scope_of
from models.editable import EditableModel
from models.rows import EditBatch, Rows
from models.state import PrefixState
from models.stored_states import stored_logits, stored_prefix
from tests.builders import PICTURED, any_model, edit_batch, llava, random_deltas

LAYER = 2
CLOSE = {"rtol": 1e-5, "atol": 1e-5}
KINDS: Any = ("states", "answers")


class Computed(Cache):
    """A cache that counts what it has computed."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.n = dict.fromkeys(KINDS, 0)

    def through(self, kind: Any, keys: Sequence[bytes], compute: Any) -> list[Tensors]:
        def counted(numbers: list[int]) -> Sequence[Tensors]:
            self.n[kind] += len(numbers)
            values: Sequence[Tensors] = compute(numbers)
            return values

        return super().through(kind, keys, counted)


def cached(model: EditableModel, folder: Path) -> Computed:
    opened = Cache.open(folder, 2**24, scope_of(model, "tiny"), KINDS)
    model.cache = Computed(**{name: getattr(opened, name) for name in opened.__dataclass_fields__})
    return model.cache


def passed(model: EditableModel, rows: Rows, state: PrefixState) -> list[torch.Tensor]:
    """What any editor makes of a state: answers unedited and edited."""
    at = rows.answers()
    deltas = random_deltas(model, layers=1, dense=False, n_edits=int(rows.edit_index.max()) + 1)
    with torch.no_grad():
        edited = model.suffix(state, at=at, deltas=deltas, edit_index=rows.edit_index)
        return [model.suffix(state, at=at), edited]


def of_model(model: EditableModel, batch: EditBatch) -> list[torch.Tensor]:
    return passed(model, batch.rows, stored_prefix(model, batch.rows, LAYER))


@pytest.mark.parametrize("kind", [*PICTURED, "opt", "gpt2"])
def test_a_later_run_computes_what_is_new_and_a_sample(kind: str, tmp_path: Path) -> None:
    pictures = kind in PICTURED
    first, later = (any_model(kind) for _ in range(2))
    filled = cached(first, tmp_path)
    of_model(first, edit_batch([1, 2, 3, 4], pictures=pictures))
    assert filled.n["states"] == 4
    counted = cached(later, tmp_path)
    for edits, new in (([4, 1, 2], 2), ([3, 5], 1), ([5, 3, 2], 0)):  # the first two: a sample
        batch, before = edit_batch(edits, pictures=pictures, padding="left"), counted.n["states"]
        got = of_model(later, batch)
        model = any_model(kind)
        expected = passed(model, batch.rows, model.prefix(batch.rows, LAYER, packed=True))
        for one, true in zip(got, expected, strict=True):
            torch.testing.assert_close(one, true, **CLOSE)
        assert counted.n["states"] - before == new


def test_a_picture_is_not_encoded_for_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, model = edit_batch([1, 2, 3], pictures=True), llava()
    cached(model, tmp_path)
    for _ in range(2):  # the second time a sample is computed
        of_model(model, batch)
    monkeypatch.setattr(model, "picture_features", None)
    of_model(model, batch)


def other_pixels(rows: Rows) -> Rows:
    assert rows.pixel_values is not None
    return replace(rows, pixel_values=rows.pixel_values + 1)


@pytest.mark.parametrize(
    "change", ["layer", "pixels", "token", "row", "autocast", "attention", "weights"]
)
def test_whatever_decides_the_numbers_decides_the_key(change: str, tmp_path: Path) -> None:
    rows, model = edit_batch([1], pictures=True).rows, llava()
    cached(model, tmp_path)
    stored_prefix(model, rows, LAYER)
    if change == "weights":
        model = llava(seed=1)
    if change == "attention":
        model.hf.set_attn_implementation("eager")
    counted = cached(model, tmp_path)
    if change == "token":
        ids = rows.input_ids.clone()
        ids[0, -1] += 1
        rows = replace(rows, input_ids=ids)
    if change == "row":
        rows = rows.select(torch.arange(1, len(rows)))
    if change == "pixels":
        rows = other_pixels(rows)
    with torch.autocast("cpu", torch.bfloat16, enabled=change == "autocast"):
        stored_prefix(model, rows, LAYER - (change == "layer"))
    assert counted.counts["states"].hits == 0


def test_a_picture_shown_twice_and_its_copy_have_states_of_their_own(tmp_path: Path) -> None:
    one_row, model = edit_batch([1], pictures=True).rows.select(torch.tensor([0])), llava()
    once = one_row.select(torch.tensor([0, 0]))
    ids = once.input_ids.clone()
    ids[1, -1] += 1  # the rest, and the picture, is what both rows begin with
    once = replace(once, input_ids=ids)
    assert once.pixel_values is not None
    pixels = once.pixel_values.repeat(2, 1, 1, 1)
    twice = replace(once, image_index=torch.tensor([0, 1]), pixel_values=pixels)
    cached(model, tmp_path)
    for one in (once, twice, once):
        got = passed(model, one, stored_prefix(model, one, LAYER))
        expected = passed(model, one, llava().prefix(one, LAYER, packed=True))
        for values, true in zip(got, expected, strict=True):
            torch.testing.assert_close(values, true, **CLOSE)


def test_a_model_with_an_edit_in_place_reads_and_writes_nothing(tmp_path: Path) -> None:
    model, rows = any_model("opt"), edit_batch([1]).rows
    counted = cached(model, tmp_path)
    with model.deltas_in_place(random_deltas(model, layers=1, dense=False, n_edits=1)):
        state = stored_prefix(model, rows, LAYER)
        stored_logits(model, rows, state, rows.answers())
    assert counted.report() == {}


def test_rows_that_cannot_be_packed_are_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = llava(), edit_batch([1], pictures=True).rows
    counted = cached(model, tmp_path)
    monkeypatch.setattr(type(model), "places_tokens_alike", False)
    state = stored_prefix(model, rows, LAYER)
    assert state.parts[0].packing is None
    assert counted.report() == {}


@pytest.mark.parametrize("kind", ["llava", "opt"])
def test_unedited_answers_come_from_what_enters_the_last_mlp(kind: str, tmp_path: Path) -> None:
    model = any_model(kind)
    rows = edit_batch([1, 2, 3], pictures=kind == "llava").rows
    state = model.prefix(rows, 1, packed=True)
    expected = model.suffix(state, at=rows.answers())
    counted = cached(model, tmp_path)
    again = edit_batch([3, 2, 1], pictures=kind == "llava", padding="left").rows
    torch.testing.assert_close(stored_logits(model, rows, state, rows.answers()), expected, **CLOSE)
    assert counted.n["answers"] == len(rows)
    other = model.prefix(again, LAYER, packed=True)  # at whichever layer it is cut
    true = model.suffix(other, at=again.answers())
    torch.testing.assert_close(stored_logits(model, again, other, again.answers()), true, **CLOSE)
    assert counted.n["answers"] == len(rows) + 2  # and a sample
