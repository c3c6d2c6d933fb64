"""LoRA against peft's own training, one edit at a time on a copy of the whole model."""

from __future__ import annotations

import copy

import peft
import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor
from torch.nn import functional as F

from configs.check import load_config
from configs.schema import EvaluateConfig
from editors.lora.config import LoraOptions
from editors.lora.editor import Lora
from editors.options import BaseFacts
from errors import ModelError
from models.deltas import LowRankDelta, Site
from models.editable import EditableModel
from models.rows import EditBatch
from models.sites import ATTENTION_ROLES, MLP_ROLES
from tests.builders import any_model, edit_batch
from tests.editors import editor_options, lora

EDITS = (3, 4, 5, 6, 7)  # answers of 1, 1, 3, 3 and 2 tokens: sorting them is not its own inverse
SETTINGS = {
    "all layers": lora(rank=4, alpha=8, steps=12, lr=5e-3),
    "last layer": lora(rank=3, alpha=5, layers=1, steps=12, lr=1e-2, seed=7),
    "two layers, early stop": lora(
        rank=4, alpha=16, layers=2, steps=60, lr=5e-3, stop_loss=3.0, stop_when_argmax=True
    ),
    "queries and values": lora(rank=4, alpha=8, steps=12, lr=2e-2, matrices=["value", "query"]),
    "attention of the last layer": lora(
        rank=3, alpha=5, layers=1, steps=12, lr=2e-2, matrices=[*ATTENTION_ROLES]
    ),
    "six maps of two layers": lora(
        rank=3, alpha=8, layers=2, steps=12, lr=5e-3, matrices=[*MLP_ROLES, *ATTENTION_ROLES]
    ),
}
CASES = [
    (kind, name)
    for kind in ("llava", "gpt2", "opt")
    for name, setting in SETTINGS.items()
    if kind != "gpt2" or set(setting.options.matrices) <= set(MLP_ROLES)
]


def deltas_of(model: EditableModel, editor: Lora, batch: EditBatch) -> dict[Site, LowRankDelta]:
    state = model.prefix(batch.rows, editor.first_layer(model))
    return dict(editor.edit(model, batch, state).deltas)  # type: ignore[arg-type]


def answers_of(model: EditableModel, editor: Lora, batch: EditBatch) -> Tensor:
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit = editor.edit(model, batch, state)
    return edit.answer(model, batch.rows, state, batch.rows.answers())


def adapted_copy(model: EditableModel, editor: Lora) -> tuple[EditableModel, list[Tensor]]:
    """A copy whose matrices peft replaces by its own layers, and what it then trains."""
    copied = copy.deepcopy(model)
    names = {id(module): name for name, module in copied.hf.named_modules()}
    config = LoraConfig(
        r=editor.options.rank,
        lora_alpha=editor.options.alpha,
        target_modules=[names[id(copied.linear(site))] for site in editor.sites(copied)],
        fan_in_fan_out=copied.hf.config.model_type == "gpt2",
    )
    torch.manual_seed(editor.options.seed)
    inject_adapter_in_model(config, copied.hf)
    return copied, [weight for weight in copied.parameters() if weight.requires_grad]


def slow_reference(model: EditableModel, editor: Lora, batch: EditBatch) -> Tensor:
    """Logits (N, V) of every row, its edit trained alone by peft on whole forward passes."""
    at, options = batch.rows.answers(), editor.options
    found: list[Tensor] = []
    for row in batch.edit_rows:
        copied, weights = adapted_copy(model, editor)
        optimiser = torch.optim.Adam(weights, lr=options.lr)
        own = batch.rows.select(row[None])
        targets = own.answers()
        for _ in range(options.steps):
            logits = copied(own, at=targets)
            loss = F.cross_entropy(logits, targets.target)
            known = bool((logits.argmax(-1) == targets.target).all())
            if options.stop_loss is not None and loss < options.stop_loss and known:
                break
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            found.append(copied(batch.rows, at=at))
    edits = batch.rows.edit_index[at.row]
    return torch.stack(found)[edits, torch.arange(len(edits))]


@pytest.mark.parametrize(("kind", "setting_name"), CASES)
def test_equals_peft_one_edit_at_a_time(kind: str, setting_name: str) -> None:
    model, batch = any_model(kind), edit_batch(EDITS, pictures=kind == "llava")
    editor = SETTINGS[setting_name]
    fast = answers_of(model, editor, batch)
    slow = slow_reference(model, editor, batch)
    unedited = model(batch.rows, at=batch.rows.answers())
    assert (fast - slow).abs().max() <= 1e-5 * slow.abs().max()
    assert (slow - unedited).abs().max() > 0.05


def test_adapters_are_those_that_peft_would_inject() -> None:
    model, editor = any_model("llama"), lora(rank=4, alpha=6, steps=1, lr=0.1, seed=3)
    _, weights = adapted_copy(model, editor)
    ours = [part for one in editor.adapters(model).values() for part in (one.a, one.b)]
    assert len(ours) == len(weights) == 12
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(ours, weights, strict=True))
    assert {one.scaling for one in editor.adapters(model).values()} == {6 / 4}


@pytest.mark.parametrize("layers", [1, 2, None])
def test_an_edit_is_the_same_alone_and_in_a_batch(layers: int | None) -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = lora(rank=4, alpha=8, layers=layers, steps=40, lr=5e-3, stop_loss=3.0)
    together = deltas_of(model, editor, batch)
    for place, number in enumerate(EDITS):
        alone = deltas_of(model, editor, edit_batch([number], pictures=True))
        for site, delta in alone.items():
            expected = delta.dense()[0]
            difference = (together[site].dense()[place] - expected).abs().max()
            assert difference <= 1e-4 * expected.abs().max()


def test_a_delta_has_the_rank_that_was_asked_for() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    deltas = deltas_of(model, lora(rank=2, alpha=4, layers=2, steps=5, lr=1e-2), batch)
    assert list(deltas) == sorted(model.last_sites(2))
    for delta in deltas.values():
        assert torch.linalg.matrix_rank(delta.dense()).tolist() == [2] * len(EDITS)


def snapshot(model: EditableModel) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_untouched(model: EditableModel, before: dict[str, Tensor]) -> None:
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in after.items())
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(m, peft.tuners.lora.LoraLayer) for m in model.modules())


def test_the_base_and_the_random_state_are_untouched() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    before, drawn = snapshot(model), torch.random.get_rng_state()
    answers_of(model, lora(rank=4, alpha=8, steps=3, lr=1e-2), batch)
    assert_untouched(model, before)
    assert torch.equal(torch.random.get_rng_state(), drawn)


def test_the_random_state_of_other_devices_is_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seed of torch's own generator is one of every GPU's too, and only the CPU's came back."""
    seeded: list[int] = []
    model = any_model("llava")
    for device in (torch.cuda, torch.xpu, torch.mps):
        name = "manual_seed" if device is torch.mps else "manual_seed_all"
        monkeypatch.setattr(device, name, seeded.append)
    torch.manual_seed(0)
    assert seeded, "seeds of other devices are not seen"
    seeded.clear()
    lora(rank=4, alpha=8).adapters(model)
    assert not seeded


def test_the_base_is_untouched_when_an_edit_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    before = snapshot(model)
    with pytest.raises(ModelError, match="is not finite at step"):
        answers_of(model, lora(rank=4, alpha=8, steps=5, lr=1e30), batch)
    assert_untouched(model, before)

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no adapter")

    monkeypatch.setattr(torch.nn.init, "kaiming_uniform_", refuse)
    with pytest.raises(RuntimeError, match="no adapter"):
        answers_of(model, lora(rank=4, alpha=8, steps=5, lr=1e-2), batch)
    assert_untouched(model, before)


def test_only_the_layers_above_the_state_are_run_backward() -> None:
    model, batch = any_model("llava"), edit_batch(EDITS, pictures=True)
    editor = lora(rank=4, alpha=8, layers=2, steps=2, lr=1e-2)
    assert editor.first_layer(model) == 1
    state = model.prefix(batch.rows, 1)
    calls: list[int] = []
    for layer, block in enumerate(model.decoder.layers):
        block.register_forward_hook(lambda *_, layer=layer: calls.append(layer))
    editor.edit(model, batch, state)
    assert 0 not in calls


def test_the_settings_are_easyedit_s() -> None:
    config = load_config("evaluate", ["editor=lora"])
    assert isinstance(config, EvaluateConfig)
    editor = config.editor
    assert isinstance(editor, LoraOptions)
    assert (editor.rank, editor.alpha, editor.lr, editor.steps) == (8, 32, 5e-3, 70)
    assert editor.layers is None


def test_a_rank_above_the_models_width_is_refused_before_weights_load() -> None:
    facts = BaseFacts("llama", 97, 3, 16)
    editor_options("lora", rank=16).check_base(facts)
    with pytest.raises(ModelError, match=r"editor\.rank=17: .* Give a number from 1 to 16"):
        editor_options("lora", rank=17).check_base(facts)
