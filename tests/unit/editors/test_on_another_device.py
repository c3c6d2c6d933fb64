"""Everything that a run does with a base model on a device that is not the CPU.

The device is the stand-in of `tests/elsewhere.py`: it refuses CPU tensors, and float64 as MPS does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from analysis.attribution import attributions
from analysis.causal_trace import causal_trace
from analysis.knowledge_neurons import coarse_set
from datamodules.scenarios import SCENARIOS
from editors.base import Editor, EditorInputs, state_for
from editors.mend.config import MendOptions
from editors.objective import Objective
from editors.rome.moments import load_second_moment, save_second_moment, second_moments
from editors.rome.update import factored, unit_direction
from editors.serac import negatives
from lightning_modules.editor_training import EditorTraining
from lightning_modules.evaluation import EvaluationModule
from lightning_modules.mend import MendTraining
from lightning_modules.scoring import Scoring
from lightning_modules.serac import SeracTraining
from metrics.scope import ScopeQuality
from models.deltas import Site
from models.editable import EditableModel
from tests.all_editors import EDITORS, answers
from tests.builders import MEND_OPTIONS, inputs
from tests.elsewhere import OTHER_DEVICE, DeviceTensor, elsewhere
from tests.ike_cases import TRAINING
from tests.serac_cases import RECORDS, drawn_from_records, options, picture_model, worded_batch
from tests.turns import turn_of

CASES = [(name, False) for name in EDITORS] + [(name, True) for name in ("ft", "mend", "serac")]
TOGETHER = ("ft", "ft_two_layers", "lora", "mend", "malmen", "ultraedit", "grace", "serac")
STEPS = 2


@pytest.fixture
def other_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[torch.device]:
    with elsewhere(monkeypatch) as device:
        yield device


def scored(model: EditableModel, editor: Editor, *, pictures: bool) -> dict[object, float]:
    """What an evaluation makes of two edits, freely generated answers and all positions too."""
    scenario = SCENARIOS["multimodal" if pictures else "unimodal"]
    scoring = Scoring("all", generation=True, max_new_tokens=2)
    module = EvaluationModule(model, editor, scenario, inputs().encoder, scoring)
    module.test_step(worded_batch([1, 2], pictures=pictures).to(model.device), 0)
    return {
        (line["probe"], line["metric"], line["edit_id"]): line["value"]
        for batch in [module.compute_outcome()]
        for line in batch.lines
    }


@pytest.mark.parametrize(("name", "pictures"), CASES)
def test_an_editor_works_beside_its_model(
    name: str, pictures: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = worded_batch([1, 2], pictures=pictures)
    model = picture_model()
    looked = replace(batch, rows=model.encode_pictures(batch.rows))
    editor = EDITORS[name](model, STEPS)
    expected, values = answers(model, editor, looked), scored(model, editor, pictures=pictures)
    with elsewhere(monkeypatch) as device:
        moved = picture_model().to(device)
        batch = batch.to(device)
        batch = replace(batch, rows=moved.encode_pictures(batch.rows))
        editor = EDITORS[name](moved, STEPS)
        if isinstance(editor, nn.Module):
            assert {tensor.device for tensor in editor.state_dict().values()} == {OTHER_DEVICE}
            assert {parameter.device for parameter in editor.parameters()} == {OTHER_DEVICE}
        found = answers(moved, editor, batch)
        assert isinstance(found, DeviceTensor)
        torch.testing.assert_close(found.cpu(), expected, atol=1e-3, rtol=1e-3)
        got = scored(moved, editor, pictures=pictures)
        assert got == pytest.approx(values, rel=1e-4, nan_ok=True)


def test_the_stand_in_refuses_what_a_device_refuses(other_device: torch.device) -> None:
    moved = torch.ones(2, 2).to(other_device)
    assert (moved * 2.0).tolist() == (moved * torch.tensor(2.0)).tolist() == [[2.0, 2.0]] * 2
    with pytest.raises(RuntimeError, match="on the CPU meets one on another device"):
        moved @ torch.ones(2)
    with pytest.raises(TypeError, match="no float64"):
        moved.double()
    with pytest.raises(TypeError, match="no float64"):
        torch.zeros(2, dtype=torch.float64, device=other_device)
    weight = torch.ones(2, device=other_device, requires_grad=True)
    (gradient,) = torch.autograd.grad((moved @ weight).sum(), weight)
    assert gradient.device == other_device
    assert gradient.tolist() == [2.0, 2.0]


def test_the_scope_s_quality_is_a_module_like_others(other_device: torch.device) -> None:
    """SERAC's training carries it: Lightning moves it to the device and back."""
    probabilities, inside = torch.tensor([0.9, 0.2, 0.7]), torch.tensor([True, True, False])
    expected = ScopeQuality()
    expected.update(probabilities, inside)
    moved = ScopeQuality().to(other_device)
    moved.update(probabilities.to(other_device), inside.to(other_device))
    for name, value in moved.compute().items():
        assert float(value) == pytest.approx(float(expected.compute()[name]), rel=1e-6)
    assert moved.hits.dtype == torch.float32
    assert moved.to("cpu").hits.dtype == expected.hits.dtype == torch.float64
    assert ScopeQuality().half().hits.dtype == torch.float64


@pytest.mark.parametrize("name", ["ft", "rome", "mend", "serac"])
def test_edits_that_stay_in_place(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = after_two(picture_model(), name)
    with elsewhere(monkeypatch) as device:
        found = after_two(picture_model().to(device), name)
    assert isinstance(found, DeviceTensor)
    torch.testing.assert_close(found.numbers, expected, atol=1e-3, rtol=1e-3)


def after_two(model: EditableModel, name: str) -> Tensor:
    """What the second edit's rows are answered with both edits in place."""
    editor: Any = EDITORS[name](model, STEPS)
    earlier: Any = None
    for number in (1, 2):
        batch = worded_batch([number]).to(model.device)
        state = model.prefix(batch.rows, editor.first_layer(model))
        with nullcontext() if earlier is None else earlier.in_place(model):
            edit = editor.edit(model, batch, state)
        earlier = edit.after(earlier)
    with torch.no_grad():
        found: Tensor = earlier.answer(model, batch.rows, state, batch.rows.answers())
    return found


@pytest.mark.parametrize("name", TOGETHER)
def test_edits_in_one_update(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = after_a_turn(picture_model(), name)
    with elsewhere(monkeypatch) as device:
        found = after_a_turn(picture_model().to(device), name)
    assert isinstance(found, DeviceTensor)
    torch.testing.assert_close(found.numbers, expected, atol=1e-3, rtol=1e-3)


def after_a_turn(model: EditableModel, name: str) -> Tensor:
    """What the rows of two edits are answered after one update of three."""
    editor: Any = EDITORS[name](model, STEPS)
    parts = [worded_batch(numbers).to(model.device) for numbers in ([1], [2, 3])]
    edit = editor.edit_together(model, turn_of(model, editor, parts), None)
    rows = replace(parts[1].rows, edit_index=torch.zeros_like(parts[1].rows.edit_index))
    state = state_for(editor, model.prefix(rows, editor.first_layer(model)))
    with torch.no_grad():
        answers: Tensor = edit.answer(model, rows, state, rows.answers())
    return answers


def mend_training(model: EditableModel) -> EditorTraining:
    chosen = MendOptions.model_validate(MEND_OPTIONS)
    objective = Objective("text", chosen.weights.model_dump())
    return MendTraining(chosen, model, inputs(), objective)


def serac_training(model: EditableModel) -> EditorTraining:
    chosen = options(objective="supervised", negatives={"share": 1.0, "per_edit": 2})
    objective = Objective("text", chosen.weights.model_dump())
    return SeracTraining(chosen, model, EditorInputs(inputs().encoder, RECORDS), objective)


@pytest.mark.parametrize("build", [mend_training, serac_training])
def test_a_training_step(
    build: Callable[[EditableModel], EditorTraining], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss, gradient and optimiser, then validation, as Lightning would run them there."""
    run = SimpleNamespace(
        global_step=0, world_size=1, estimated_stepping_batches=4,
        precision_plugin=SimpleNamespace(),
    )  # fmt: skip
    monkeypatch.setattr(EditorTraining, "trainer", run)
    monkeypatch.setattr(EditorTraining, "log", lambda *_, **__: None)
    expected = trained(build, picture_model())
    with elsewhere(monkeypatch) as device:
        found = trained(build, picture_model().to(device))
    assert found == pytest.approx(expected, rel=1e-3)


def trained(build: Callable[[EditableModel], EditorTraining], model: EditableModel) -> list[float]:
    """Losses before and after a step, and of validation."""
    module = build(model).to(model.device)
    draw = torch.Generator().manual_seed(0)
    for parameter in module.editor.parameters():
        if parameter.requires_grad:
            parameter.data.copy_(0.1 * torch.randn(parameter.shape, generator=draw))
    optimizer: Any = module.configure_optimizers()
    losses = []
    for numbers in ([1, 2], [3, 4]):
        module.train()
        loss = module.edit_and_judge(worded_batch(numbers).to(model.device))[2].total
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    module.eval()
    with torch.no_grad():
        loss = module.edit_and_judge(worded_batch([5, 6]).to(model.device))[2].total
    return [*losses, float(loss)]


def test_hard_negatives_are_embedded_where_the_run_is(
    other_device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to itself every process would take cuda:0; a draw does not depend on the device."""
    chosen = options(negatives={"share": 1.0, "per_edit": 2}).negatives
    used: list[torch.device] = []
    encode = negatives.SentenceTransformer.encode

    def seen(self: Any, *args: Any, **kwargs: Any) -> Any:
        used.append(self.device)
        return encode(self, *args, **kwargs)

    monkeypatch.setattr(negatives.SentenceTransformer, "encode", seen)
    moved = negatives.HardNegatives(chosen, RECORDS, device=other_device)
    assert set(used) == {other_device}
    plain = drawn_from_records(per_edit=2)
    for record in RECORDS[:3]:
        question = record.knowledge_edit.question
        drawn = [each.draw(1, question, record.subject) for each in (moved, plain)]
        assert drawn[0] == drawn[1]


def test_rome_s_second_moment(other_device: torch.device, tmp_path: Path) -> None:
    """It is added up and solved in float64, on the CPU where the device has none."""
    site = Site(1, "mlp_out")
    moved = picture_model().to(other_device)
    rows = worded_batch([1, 2]).rows
    tokens = (rows.input_ids.to(other_device), rows.attention_mask.to(other_device))
    moments, count = second_moments(moved, [site], [tokens])
    found = moments[site]
    assert (found.device.type, found.dtype, count) == ("cpu", torch.float64, int(tokens[1].sum()))
    path = tmp_path / "moment.safetensors"
    save_second_moment(path, found, facts={"model": moved.fingerprint(), "layer": "1"})
    again = load_second_moment(str(path), moved, 1)
    assert torch.equal(again, found)
    keys = torch.randn(3, len(found), generator=torch.Generator().manual_seed(0))
    moment = factored(found + torch.eye(len(found), dtype=torch.float64))
    direction = unit_direction(keys.to(other_device), moment)
    assert isinstance(direction, DeviceTensor)
    assert torch.equal(direction.numbers, unit_direction(keys, moment))


def test_the_analyses(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rows = picture_model(), worded_batch([1, 2], pictures=True).rows
    neurons = attributions(model, rows, steps=2)
    trace = causal_trace(model, inputs().encoder, TRAINING[:2], draws=1)
    with elsewhere(monkeypatch) as device:
        moved = picture_model().to(device)
        found = attributions(moved, rows.to(device), steps=2)
        assert isinstance(found, DeviceTensor)
        torch.testing.assert_close(found.numbers, neurons, atol=1e-4, rtol=1e-3)
        traced = causal_trace(moved, inputs().encoder, TRAINING[:2], draws=1)
    assert traced.clean == pytest.approx(trace.clean, rel=1e-3)
    assert len(coarse_set(found[0], 0.5).ids) == len(coarse_set(neurons[0], 0.5).ids)
