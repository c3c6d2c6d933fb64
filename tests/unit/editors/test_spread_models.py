"""Every editor on a base model that lies in several places: the numbers of the whole model.

Some layers are left on the disk and read by accelerate for each pass, or lie on a card: the
stand-in of `tests/elsewhere.py`, which refuses tensors of two devices in one operation.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from analysis.attribution import attributions
from analysis.causal_trace import causal_trace
from lightning_modules.editor_training import EditorTraining
from models.editable import EditableModel
from models.loading import load_model
from models.rows import EditBatch
from tests.all_editors import EDITORS, answers
from tests.builders import inputs
from tests.elsewhere import elsewhere
from tests.ike_cases import TRAINING
from tests.serac_cases import picture_model, worded_batch
from tests.spread import on_card, on_disk
from tests.unit.editors.test_on_another_device import (
    after_a_turn,
    after_two,
    mend_training,
    scored,
    serac_training,
    trained,
)

STEPS = 2
ON_CARD = (1, 2)  # the last layer among them, which ends at the answers
NAMES = [
    name
    for name in EDITORS
    if name not in ("ft_l", "rome_second_moment", "alphaedit", "serac_hard")
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    picture_model().hf.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def whole(folder: Path) -> EditableModel:
    return load_model("llava", str(folder), dtype="float32")


@pytest.fixture(scope="module")
def offloaded(folder: Path) -> EditableModel:
    """Two of three layers, so that edited ones are among them."""
    return on_disk("llava", folder, layers=2)


def edited(model: EditableModel, name: str, *, pictures: bool) -> Tensor:
    batch = worded_batch([1, 2], pictures=pictures)
    batch = replace(batch, rows=model.encode_pictures(batch.rows))
    return answers(model, EDITORS[name](model, STEPS), batch)


def offloaded_layers(model: EditableModel) -> list[int]:
    return [
        number
        for number, layer in enumerate(model.decoder.layers)
        if all(parameter.is_meta for parameter in layer.parameters())
    ]


@pytest.mark.parametrize("name", NAMES)
def test_layers_on_the_disk(name: str, whole: EditableModel, offloaded: EditableModel) -> None:
    pictures = name in ("ft", "mend", "serac")
    expected = edited(whole, name, pictures=pictures)
    torch.testing.assert_close(
        edited(offloaded, name, pictures=pictures), expected, atol=1e-6, rtol=0
    )
    assert offloaded_layers(offloaded) == [0, 1], "a pass leaves no weight behind"


@pytest.mark.parametrize("name", NAMES)
def test_layers_on_a_card(name: str, whole: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = name in ("ft", "mend", "serac")
    expected = edited(whole, name, pictures=pictures)
    with elsewhere(monkeypatch) as card:
        found = edited(on_card(picture_model(), card, ON_CARD), name, pictures=pictures)
        assert type(found) is Tensor, "what a pass gives is on the main device"
        # The stand-in takes another way through attention than the CPU.
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["ft", "ike", "mend", "rome", "serac"])
def test_an_evaluation(name: str, whole: EditableModel, offloaded: EditableModel) -> None:
    """With generated answers, and locality at every position."""
    expected = scored(whole, EDITORS[name](whole, STEPS), pictures=True)
    found = scored(offloaded, EDITORS[name](offloaded, STEPS), pictures=True)
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)


def test_an_evaluation_on_a_card(whole: EditableModel, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = scored(whole, EDITORS["mend"](whole, STEPS), pictures=True)
    with elsewhere(monkeypatch) as card:
        model = on_card(picture_model(), card, ON_CARD)
        found = scored(model, EDITORS["mend"](model, STEPS), pictures=True)
    assert found == pytest.approx(expected, rel=1e-4, nan_ok=True)


@pytest.mark.parametrize("name", ["ft", "rome"])
def test_edits_that_stay_in_place(
    name: str, whole: EditableModel, offloaded: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = after_two(whole, name)
    torch.testing.assert_close(after_two(offloaded, name), expected, atol=1e-6, rtol=0)
    with elsewhere(monkeypatch) as card:
        found = after_two(on_card(picture_model(), card, ON_CARD), name)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("name", ["ft", "ft_two_layers", "lora"])
def test_edits_in_one_update(
    name: str, whole: EditableModel, offloaded: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = after_a_turn(whole, name)
    torch.testing.assert_close(after_a_turn(offloaded, name), expected, atol=1e-6, rtol=0)
    with elsewhere(monkeypatch) as card:
        found = after_a_turn(on_card(picture_model(), card, ON_CARD), name)
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("build", [mend_training, serac_training])
@pytest.mark.parametrize("where", ["disk", "card"])
def test_a_training_step(
    build: Any, where: str, whole: EditableModel, offloaded: EditableModel,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    run = SimpleNamespace(
        global_step=0, world_size=1, estimated_stepping_batches=4,
        precision_plugin=SimpleNamespace(scaler=None),
    )  # fmt: skip
    monkeypatch.setattr(EditorTraining, "trainer", run)
    monkeypatch.setattr(EditorTraining, "log", lambda *_, **__: None)
    expected = trained(build, whole)
    with elsewhere(monkeypatch) if where == "card" else nullcontext() as card:
        model = on_card(picture_model(), card, ON_CARD) if card else offloaded
        found = trained(build, model)
    assert found == pytest.approx(expected, rel=1e-3 if card else 1e-6)


@pytest.mark.parametrize("where", ["disk", "card"])
def test_the_analyses(
    where: str, whole: EditableModel, offloaded: EditableModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch: EditBatch = worded_batch([1, 2], pictures=True)
    neurons = attributions(whole, batch.rows, steps=2)
    trace = causal_trace(whole, inputs().encoder, TRAINING[:2], draws=1)
    with elsewhere(monkeypatch) if where == "card" else nullcontext() as card:
        model = on_card(picture_model(), card, ON_CARD) if card else offloaded
        found = attributions(model, batch.rows, steps=2)
        torch.testing.assert_close(found, neurons, atol=1e-4, rtol=1e-3)
        traced = causal_trace(model, inputs().encoder, TRAINING[:2], draws=1)
    assert traced.clean == pytest.approx(trace.clean, rel=1e-3)
    for kind, effect in trace.effect.items():
        torch.testing.assert_close(
            traced.effect[kind], effect, atol=1e-4, rtol=1e-3, equal_nan=True
        )
