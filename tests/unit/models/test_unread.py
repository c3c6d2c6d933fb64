"""A model that is read from a layer on: the same numbers, and the rest once a pass needs it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from errors import ModelError
from models.editable import EditableModel
from models.families import family_of
from models.loading import can_wait, load_model
from models.rows import Rows
from models.unread import below, unread, without
from tests.builders import PICTURED, rows_of
from tests.unit.models.test_packing import drawn_prompts

LAYER = 2


@pytest.fixture(scope="module", params=[*PICTURED])
def stored(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp(request.param)
    PICTURED[request.param]().hf.save_pretrained(folder)
    return request.param, str(folder)


@pytest.fixture
def rows() -> Rows:
    return rows_of(drawn_prompts(7, pictures=True))


def size(model: EditableModel) -> int:
    return sum(parameter.numel() for parameter in model.hf.parameters())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_passes_above_read_nothing_below(stored: tuple[str, str], rows: Rows, dtype: Any) -> None:
    whole = load_model(*stored, dtype=dtype)
    upper = load_model(*stored, dtype=dtype, first_layer=LAYER)
    assert size(upper) < size(whole) / 2
    state, at = whole.prefix(rows, LAYER, packed=True), rows.answers()
    assert torch.equal(upper.suffix(state, at=at), whole.suffix(state, at=at))
    assert {name for name in unread(upper.hf) if ".layers." in name} == {
        name for name in unread(upper.hf) if name.endswith((".0", ".1"))
    }
    assert (upper.device, upper.dtype) == (whole.device, whole.dtype)


def test_weights_of_what_is_not_read_are_no_surprise(stored: tuple[str, str]) -> None:
    family = family_of(stored[0])
    upper = without(family.hf, family.wrapper.decoder_of, below(LAYER))  # type: ignore[attr-defined]
    _, info = upper.from_pretrained(stored[1], output_loading_info=True)
    assert not info["unexpected_keys"]
    assert not info["missing_keys"]


@pytest.mark.parametrize("first", ["pictures", "layers"])
def test_a_pass_that_needs_the_rest_has_it_read_once(
    stored: tuple[str, str], rows: Rows, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    whole = load_model(*stored, dtype="float32")
    upper = load_model(*stored, dtype="float32", first_layer=LAYER)
    caplog.set_level(logging.INFO)
    shown = rows if first == "pictures" else whole.encode_pictures(rows)
    state, expected = (model.prefix(shown, LAYER, packed=True) for model in (upper, whole))
    for part, true in zip(state.parts, expected.parts, strict=True):
        assert torch.equal(part.hidden, true.hidden)
    assert not unread(upper.hf)
    assert upper.fingerprint() == whole.fingerprint()
    upper.prefix(rows, 1)
    assert caplog.text.count("it is read now") == 1


@pytest.mark.parametrize("layer", [0, 1])
def test_a_pass_that_begins_with_a_picture_stops_where_it_shall(
    stored: tuple[str, str], rows: Rows, layer: int
) -> None:
    upper = load_model(*stored, dtype="float32", first_layer=LAYER)
    (found,) = upper.prefix(rows, layer).parts
    (expected,) = load_model(*stored, dtype="float32").prefix(rows, layer).parts
    assert torch.equal(found.hidden, expected.hidden)


def test_until_all_is_read_the_fingerprint_is_the_recorded_one(
    stored: tuple[str, str], rows: Rows
) -> None:
    whole = load_model(*stored, dtype="float32").fingerprint()
    upper = load_model(*stored, dtype="float32", first_layer=LAYER, recorded=whole)
    assert upper.fingerprint() == whole
    upper.prefix(rows, LAYER)
    upper.recorded_fingerprint = None
    assert upper.fingerprint() == whole
    other = load_model(*stored, dtype="float32", first_layer=LAYER, recorded="0123")
    with pytest.raises(ModelError, match=r"have fingerprint \w+, and the cache's record .* 0123"):
        other.prefix(rows, LAYER)


def test_weights_that_are_missing_are_told_whichever_part_they_are_of(
    tmp_path: Path, rows: Rows
) -> None:
    PICTURED["llava"]().hf.save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    weights = load_file(file)
    below = next(name for name in weights if "layers.0.mlp.up_proj" in name)
    save_file({k: v for k, v in weights.items() if k != below}, file, {"format": "pt"})
    upper = load_model("llava", str(tmp_path), first_layer=LAYER)
    with pytest.raises(ModelError, match=r"missing: .*layers\.0\.mlp\.up_proj"):
        upper.prefix(rows, LAYER)
    above = next(name for name in weights if "layers.2.mlp.up_proj" in name)
    save_file({k: v for k, v in weights.items() if k != above}, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"missing: .*layers\.2\.mlp\.up_proj"):
        load_model("llava", str(tmp_path), first_layer=LAYER)


def test_families_that_are_found_by_structure_are_read_whole() -> None:
    assert [can_wait(family) for family in ("llava", "blip2", "minigpt4", "auto")] == [
        True, True, True, False,
    ]  # fmt: skip
