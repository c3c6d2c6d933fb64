"""model=auto against plain forward passes of the families' own classes, on tiny saved folders."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from models.auto import AutoMLLM
from models.budget import MemoryBudget
from models.context import answer_with_shared_prefix, rest
from models.loading import load_model
from models.processor import Processor, load_processor
from models.rows import TEXT_ONLY, Rows
from tests.auto_cases import FAMILIES, save
from tests.builders import edited, padded_rows, random_deltas

EXACT = {"atol": 5e-6, "rtol": 5e-5}
EDITED = {"atol": 5e-5, "rtol": 5e-4}


@dataclass(frozen=True)
class Opened:
    """A tiny model and its processor."""

    model: AutoMLLM
    processor: Processor


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Opened]:
    """Opens a family's folder as the commands do, once."""
    made: dict[str, Opened] = {}

    def open_folder(kind: str) -> Opened:
        if kind not in made:
            folder = str(save(kind, tmp_path_factory.mktemp(kind)))
            model = load_model("auto", folder)
            assert isinstance(model, AutoMLLM)
            made[kind] = Opened(model, load_processor("auto", folder))
        return made[kind]

    return open_folder


def picture(number: int) -> Image.Image:
    """Noise of some size."""
    draw = np.random.default_rng(number)
    size = (10 + 3 * number, 40 - number, 3)
    return Image.fromarray(draw.integers(0, 256, size, dtype=np.uint8))


def rows_for(
    one: Opened,
    *,
    shown: tuple[int | None, ...] = (None, 7, None, 8, 7, None),
    padding: str = "right",
    extra: int = 0,
    beginning: int = 1,
) -> Rows:
    """Rows that begin with the same tokens; a picture stands behind them."""
    draw = random.Random(1)
    vocabulary = range(20, 330)
    common = tuple(draw.choice(vocabulary) for _ in range(beginning))
    token_rows: list[list[int]] = []
    for number, seen in enumerate(shown):
        shows = () if seen is None else one.processor.picture_ids
        own = [draw.choice(vocabulary) for _ in range(5 + 2 * number)]
        token_rows.append([*common, *shows, *own])
    return padded_rows(
        token_rows,
        answers=[1 + row % 3 for row in range(len(token_rows))],
        edits=[row % 2 for row in range(len(token_rows))],
        pictures=shown,
        pixels=lambda number: one.processor.pixels(picture(number)),
        slot=one.processor.image_token_id,
        padding=padding,
        extra=extra,
    )


def arguments(model: AutoMLLM, rows: Rows) -> dict[str, Any]:
    """What the family's own processor would give; pictures once per row that shows one."""
    given: dict[str, Any] = {
        "input_ids": rows.input_ids, "attention_mask": rows.attention_mask.long()
    }  # fmt: skip
    if rows.pixel_values is None:
        return given
    shown = rows.image_index[rows.image_index >= 0]
    given["pixel_values"] = rows.pixel_values[shown].flatten(0, 1)
    for name, value in model.pictures.inputs.items():
        given[name] = torch.cat([value] * len(shown))
    kinds = "token_type_ids" if model.hf.config.model_type == "gemma3" else "mm_token_type_ids"
    given[kinds] = (rows.input_ids == model.pictures.token).int()
    return given


def plain(model: AutoMLLM, rows: Rows) -> Tensor:
    """The family's own forward pass."""
    with torch.no_grad():
        return model.hf(**arguments(model, rows)).logits.float()


SHOWN = {
    "mixed": (None, 7, None, 8, 7, None),
    "pictures": (7, 8, 7),
    "text": (None, None, None, None),
}


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("kind", FAMILIES)
def test_prefix_and_suffix_are_the_plain_forward_from_every_layer(
    opened: Callable[[str], Opened], kind: str, shown: str, padding: str
) -> None:
    one = opened(kind)
    model, rows = one.model, rows_for(one, shown=SHOWN[shown], padding=padding, extra=1)
    expected, at, real = plain(model, rows), rows.answers(), rows.attention_mask
    for layer in range(model.n_layers):
        state = model.prefix(rows, layer)
        torch.testing.assert_close(model.suffix(state)[real], expected[real], **EXACT)
        answers = model.suffix(state, at=at)
        torch.testing.assert_close(answers, expected[at.row, at.position], **EXACT)
        last = model.finish_answers(model.answer_state(state, at))
        torch.testing.assert_close(last, answers, **EXACT)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_rows_answer_under_their_own_edit(
    opened: Callable[[str], Opened], kind: str, dense: bool
) -> None:
    one = opened(kind)
    model, rows = one.model, rows_for(one)
    deltas, at = random_deltas(model, layers=2, dense=dense), rows.answers()
    state = model.prefix(rows, 1)
    answers = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    whole = model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
    unedited = model.suffix(state, at=at)
    for edit in range(2):
        expected = plain(edited(model, deltas, edit), rows)
        mine = rows.edit_index[at.row] == edit
        torch.testing.assert_close(answers[mine], expected[at.row, at.position][mine], **EDITED)
        real = rows.attention_mask & (rows.edit_index == edit)[:, None]
        torch.testing.assert_close(whole[real], expected[real], **EDITED)
        assert (answers[mine] - unedited[mine]).abs().max() > 0.01


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_captured_factors_are_the_weight_gradient(
    opened: Callable[[str], Opened], kind: str, padding: str
) -> None:
    one = opened(kind)
    model, rows = one.model, rows_for(one, padding=padding)
    chosen = torch.tensor([1, 4, 2])
    state, own = model.prefix(rows, 0).select(chosen), rows.select(chosen)
    sites = model.last_sites(3, list(model.decoder.sites))
    factors, _ = model.capture(state, sites, own.answers())
    for edit, row in enumerate(chosen):
        single = rows.select(row[None])
        at, copied = single.answers(), copy.deepcopy(model)
        for site in sites:
            copied.linear(site).get_parameter("weight").requires_grad_(True)
        predicted = copied.hf(**arguments(copied, single)).logits[at.row, at.position]
        F.cross_entropy(predicted, at.target).backward()
        for site in sites:
            part = factors[site]
            delta = part.delta[edit] * part.mask[edit][:, None]
            expected = copied.linear(site).get_parameter("weight").grad
            torch.testing.assert_close(delta.mT @ part.x[edit], expected, atol=5e-6, rtol=5e-4)


@pytest.mark.parametrize("kind", ["qwen2_vl", "glm4v", "gemma3"])
@pytest.mark.parametrize("n_rows", [2, 3, 4])  # three: as many as Qwen2-VL has axes of positions
def test_a_selection_of_rows_goes_on_from_its_own_state(
    opened: Callable[[str], Opened], kind: str, n_rows: int
) -> None:
    one = opened(kind)
    rows = rows_for(one, shown=(7, None, 8, 7)[:n_rows])
    expected = plain(one.model, rows)
    chosen = torch.tensor([n_rows - 1, 0])
    at = rows.select(chosen).answers()
    found = one.model.suffix(one.model.prefix(rows, 1).select(chosen), at=at)
    torch.testing.assert_close(found, expected[chosen][at.row, at.position], **EXACT)


@pytest.mark.parametrize("kind", FAMILIES)
def test_pictures_matter_and_are_looked_at_once(
    opened: Callable[[str], Opened], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened(kind)
    model, rows = one.model, rows_for(one)
    at = rows.answers()
    answers = model(rows, at=at)
    assert rows.pixel_values is not None
    swapped = model(replace(rows, pixel_values=rows.pixel_values.flip(0)), at=at)
    seen = rows.image_index[at.row] != TEXT_ONLY
    assert (swapped - answers)[seen].abs().max() > 1e-3
    torch.testing.assert_close(swapped[~seen], answers[~seen], **EXACT)
    looked = model.encode_pictures(rows)
    monkeypatch.setattr(model, "picture_features", lambda _: pytest.fail("looked again"))
    torch.testing.assert_close(model(looked, at=at), answers, **EXACT)


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "glm4v", "gemma3"])
def test_what_the_body_is_told_matters(
    opened: Callable[[str], Opened], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened(kind)
    rows = rows_for(one)
    answers = one.model(rows)[rows.attention_mask]
    monkeypatch.setattr(one.model, "body_inputs", lambda _: {})
    without = one.model(rows)[rows.attention_mask]
    assert (without - answers).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["qwen2_vl", "qwen2_5_vl", "glm4v"])
def test_positions_begin_with_the_row_and_go_on_after_a_pictures_longer_side(
    opened: Callable[[str], Opened], kind: str
) -> None:
    one = opened(kind)
    rows = rows_for(one, padding="left", extra=2)
    positions = one.model.body_inputs(rows)["position_ids"]
    for row in range(len(rows)):
        real = rows.attention_mask[row]
        steps = torch.arange(int(real.sum()))
        if rows.image_slots[row].any():  # 2 x 2 features behind a token and the picture's start
            assert positions[:, row][:, real][:, :6].tolist() == [
                [0, 1, 2, 2, 2, 2], [0, 1, 2, 2, 3, 3], [0, 1, 2, 3, 2, 3]
            ]  # fmt: skip
            assert torch.equal(positions[:, row][:, real][:, 6:], (steps[6:] - 2).expand(3, -1))
        else:
            assert torch.equal(positions[:, row][:, real], steps.expand(3, -1))
    assert one.model.body_inputs(rows_for(one, shown=(None, None))) == {}


@pytest.mark.parametrize("padding", ["right", "left"])
@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("kind", FAMILIES)
def test_a_shared_beginning_is_answered_as_whole_rows_are(
    opened: Callable[[str], Opened], kind: str, shown: str, padding: str
) -> None:
    one = opened(kind)
    rows = rows_for(one, shown=SHOWN[shown], padding=padding, beginning=9)
    at = rows.answers()
    found = answer_with_shared_prefix(one.model, rows, at)
    torch.testing.assert_close(found, plain(one.model, rows)[at.row, at.position], **EXACT)


@pytest.mark.parametrize("shown", SHOWN)
@pytest.mark.parametrize("kind", FAMILIES)
def test_the_rest_of_rows_is_answered_as_whole_rows_are(
    opened: Callable[[str], Opened], kind: str, shown: str
) -> None:
    one = opened(kind)
    rows = rows_for(one, shown=SHOWN[shown], beginning=9)
    at, last = rows.answers(), rows.attention_mask.sum(1) - 2
    first = last.clone().scatter_reduce(0, at.row, at.position, "amin") - 1
    state, cut = rest(one.model, rows, 1, first, last)
    found = one.model.suffix(state, at=replace(at, position=at.position - cut[at.row]))
    torch.testing.assert_close(found, plain(one.model, rows)[at.row, at.position], **EXACT)


@pytest.mark.parametrize("kind", FAMILIES)
def test_bfloat16_is_the_familys_own_bfloat16(
    opened: Callable[[str], Opened], kind: str, tmp_path: Path
) -> None:
    model = load_model("auto", str(save(kind, tmp_path)), dtype="bfloat16")
    assert isinstance(model, AutoMLLM)
    rows = rows_for(opened(kind))
    answers, at = model(rows, at=rows.answers()), rows.answers()
    expected = plain(model, rows)[at.row, at.position]
    assert answers.dtype == torch.float32
    assert (answers - expected).abs().max() < 0.02 * expected.abs().max()


def test_little_memory_changes_nothing_in_whole_passes(
    opened: Callable[[str], Opened], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened("qwen2_vl")
    rows = rows_for(one, beginning=9)
    at = rows.answers()
    expected = answer_with_shared_prefix(one.model, rows, at)
    monkeypatch.setattr(one.model, "budget", MemoryBudget(1))
    found = answer_with_shared_prefix(one.model, rows, at)
    torch.testing.assert_close(found, expected, **EXACT)
