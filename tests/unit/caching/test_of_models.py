"""Vision features and base answers from the cache: the same numbers, and nothing computed twice."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from caching.store import Cache
from lightning_modules.predictions import Predictions, base_predictions
from lightning_modules.reading import knows
from models.cache_scope import scope_of
from models.editable import EditableModel
from models.row_keys import row_keys
from models.rows import EditBatch, Rows
from tests.builders import any_model, edit_batch, llava, random_deltas

FAMILIES = ["llava", "blip2", "minigpt4"]


def cached(model: EditableModel, folder: Path) -> EditableModel:
    kinds: Any = ("pictures", "answers")
    model.cache = Cache.open(folder, 2**24, scope_of(model, "tiny"), kinds)
    return model


class Calls:
    """Counts what goes through a method of a model."""

    def __init__(self, model: EditableModel, name: str, count: Callable[..., int]) -> None:
        self.n, work = 0, getattr(model, name)

        def counted(*arguments: Any, **named: Any) -> Any:
            self.n += count(*arguments, **named)
            return work(*arguments, **named)

        object.__setattr__(model, name, counted)


def pictures_seen(model: EditableModel) -> Calls:
    return Calls(model, "picture_features", len)


def answers_given(model: EditableModel) -> Calls:
    return Calls(model, "suffix", lambda state, at, **_: at.row.unique().numel())


def predicted(model: EditableModel, batch: EditBatch, layer: int = 1) -> Predictions:
    rows = model.encode_pictures(batch.rows)
    return base_predictions(model, rows, model.prefix(rows, layer, packed=True), rows.answers())


def close(one: Predictions, other: Predictions) -> None:
    assert torch.equal(one.top, other.top)
    torch.testing.assert_close(one.values, other.values, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_second_run_encodes_and_answers_only_a_sample(kind: str, tmp_path: Path) -> None:
    batch = edit_batch([1, 2, 3], pictures=True)
    expected = predicted(any_model(kind), batch)
    features = any_model(kind).encode_pictures(batch.rows).features
    close(predicted(cached(any_model(kind), tmp_path), batch), expected)
    again = cached(any_model(kind), tmp_path)
    seen, given = pictures_seen(again), answers_given(again)
    for layer in (1, 2, 1):  # of another editor
        close(predicted(again, batch, layer), expected)
    assert (seen.n, given.n) == (2, 2)
    assert features is not None
    read = again.encode_pictures(batch.rows).features
    torch.testing.assert_close(read, features, rtol=1e-6, atol=1e-6)


def test_other_batches_of_the_same_rows_read_them_too(tmp_path: Path) -> None:
    predicted(cached(llava(), tmp_path), edit_batch([1, 2, 3, 4], pictures=True))
    again = cached(llava(), tmp_path)
    first = edit_batch([3, 5], pictures=True, padding="left", extra=2)
    seen, given = pictures_seen(again), answers_given(again)
    close(predicted(again, first), predicted(llava(), first))
    alone = edit_batch([5], pictures=True)
    n_pictures = 0 if alone.rows.pixel_values is None else len(alone.rows.pixel_values)
    assert (seen.n, given.n) == (n_pictures + 2, len(alone.rows) + 2)


def test_answers_in_half_precision_are_those_of_the_same_batch(tmp_path: Path) -> None:
    half = torch.bfloat16
    batch = edit_batch([1, 2], pictures=True)
    expected = predicted(llava(dtype=half), batch)
    predicted(cached(llava(dtype=half), tmp_path), batch)
    again = cached(llava(dtype=half), tmp_path)
    predicted(again, edit_batch([1], pictures=True))
    assert again.cache.counts["answers"].hits == 0
    same = predicted(again, batch)
    assert again.cache.counts["answers"].misses == len(edit_batch([1], pictures=True).rows)
    assert torch.equal(same.top, expected.top)
    assert torch.equal(same.values, expected.values)


def test_answers_in_mixed_precision_are_those_of_the_same_batch(tmp_path: Path) -> None:
    batch = edit_batch([1, 2], pictures=True)
    with torch.autocast("cpu", torch.bfloat16):
        predicted(cached(llava(), tmp_path), batch)
        again = cached(llava(), tmp_path)
        predicted(again, edit_batch([1], pictures=True))
        assert again.cache.counts["answers"].hits == 0
        predicted(again, batch)
    assert again.cache.counts["answers"].hits == len(batch.rows)


def test_the_edited_model_is_neither_read_nor_stored(tmp_path: Path) -> None:
    batch = edit_batch([1])
    model = cached(llava(), tmp_path)
    expected = predicted(model, batch)
    deltas = random_deltas(model, layers=1, dense=True, n_edits=1)
    with model.deltas_in_place(deltas):
        moved = predicted(model, batch)
        assert not torch.equal(moved.values, expected.values)
        right = knows(model)(batch.rows)
    assert model.cache.counts["answers"].hits == 0
    close(predicted(cached(llava(), tmp_path), batch), expected)
    assert right.shape == (len(batch.rows),)


def test_what_the_model_knows_and_what_it_answers_are_one(tmp_path: Path) -> None:
    batch = edit_batch([1, 2], pictures=True)
    expected = knows(llava())(batch.rows)
    predicted(cached(llava(), tmp_path), batch)
    again = cached(llava(), tmp_path)
    assert torch.equal(knows(again)(batch.rows), expected)
    assert again.cache.counts["answers"].misses == 0


def test_weights_that_the_fingerprint_does_not_see_are_seen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = edit_batch([1, 2], pictures=True)
    model = cached(llava(), tmp_path)
    predicted(model, batch)
    moved = llava()
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(1e-3 * torch.randn_like(parameter))
    expected = predicted(moved, batch)
    assert model.cache.scope is not None
    kinds: Any = ("pictures", "answers")
    moved.cache = Cache.open(tmp_path, 2**24, model.cache.scope, kinds)
    close(predicted(moved, batch), expected)
    assert "differ by" in caplog.text


@pytest.mark.parametrize(
    "change",
    [
        lambda hf: hf.config.text_config.__setattr__("rms_norm_eps", 1e-3),
        lambda hf: hf.lm_head.weight.data.__setitem__((0, 0), 9.0),
        lambda hf: hf.to(torch.float64),
    ],
    ids=["config", "weight", "dtype"],
)
def test_models_that_compute_other_numbers_have_scopes_of_their_own(
    change: Callable[[Any], object],
) -> None:
    model = llava()
    before = scope_of(model, "tiny").name
    assert scope_of(copy.deepcopy(model), "other label").name == before
    change(model.hf)
    assert scope_of(model, "tiny").name != before


def test_other_digits_of_products_are_another_scope() -> None:
    model, before = llava(), torch.get_float32_matmul_precision()
    names = set()
    try:
        for precision in ("highest", "high", "medium"):
            torch.set_float32_matmul_precision(precision)
            names.add(scope_of(model, "tiny").name)
    finally:
        torch.set_float32_matmul_precision(before)
    assert len(names) == 3


def rows(batch: EditBatch, **changes: Tensor) -> Rows:
    return replace(batch.rows, **changes)


def test_rows_have_keys_of_what_they_ask_alone() -> None:
    batch = edit_batch([1, 2], pictures=True)
    keys = row_keys(batch.rows)
    assert row_keys(edit_batch([1, 2], pictures=True, padding="left", extra=3).rows) == keys
    assert row_keys(rows(batch, edit_index=batch.rows.edit_index + 1)) == keys
    assert row_keys(batch.rows.select(torch.tensor([3, 0]))) == [keys[3], keys[0]]
    pixels = batch.rows.pixel_values
    assert pixels is not None
    shown = batch.rows.image_index
    other = row_keys(rows(batch, pixel_values=pixels + (torch.arange(len(pixels)) == 0)
                          .float()[:, None, None, None]))  # fmt: skip
    assert [a != b for a, b in zip(keys, other, strict=True)] == (shown == 0).tolist()
    moved = batch.rows.answer_mask.clone()
    moved[0] = moved[0].roll(-1)
    assert row_keys(rows(batch, answer_mask=moved))[0] != keys[0]
    ids = batch.rows.input_ids.clone()
    ids[0, 0] += 1
    assert row_keys(rows(batch, input_ids=ids))[0] != keys[0]
