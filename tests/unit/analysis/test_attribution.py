"""Attributions of neurons against one forward pass per row, answer token, layer and scale."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from analysis import attribution as neurons
from analysis.attribution import attributions, n_neurons, update_by_neuron
from models.budget import MemoryBudget
from models.deltas import Deltas, DenseDelta, LowRankDelta, Site, linear_weight
from models.editable import EditableModel
from models.loading import load_model
from models.processor import load_processor
from models.rows import Answers, Rows
from tests.auto_cases import save
from tests.builders import (
    INNER,
    PICTURED,
    Prompt,
    any_model,
    edited,
    llava,
    random_deltas,
    rows_of,
)

KINDS = (*PICTURED, "gpt2", "opt", "llama")
STEPS = 2


def prompts(*, pictures: bool) -> list[Prompt]:
    """Four rows under two edits, of one to three answer tokens; two show a picture."""
    shown = (None, 7, 8, None) if pictures else (None,) * 4
    draw = torch.Generator().manual_seed(1)
    found = []
    for row, (picture, length) in enumerate(zip(shown, (8, 11, 6, 9), strict=True)):
        tokens = torch.randint(4, 97, (length,), generator=draw).tolist()
        found.append(Prompt(tuple(tokens), 1 + row % 3, row % 2, picture))
    return found


def rows_for(kind: str, *, padding: str = "right", extra: int = 0) -> Rows:
    return rows_of(prompts(pictures=kind in PICTURED), padding=padding, extra=extra)


def doubled(deltas: Deltas) -> Deltas:
    """The deltas in float64, in which differences of small probabilities can be compared."""
    return {
        site: DenseDelta(delta.weight.double())
        if isinstance(delta, DenseDelta)
        else LowRankDelta(delta.inputs.double(), delta.outputs.double())
        for site, delta in deltas.items()
    }


class Scaled(nn.Module):
    """An MLP's second matrix that sees a scaled input at one token of one row."""

    def __init__(self, linear: nn.Module, position: int, scale: float) -> None:
        super().__init__()
        self.linear, self.position, self.scale = linear, position, scale

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.reshape(-1, x.shape[-1])
        self.full = tokens[self.position].detach()
        self.point = (self.scale * self.full).requires_grad_()
        changed = torch.stack([*tokens[: self.position], self.point, *tokens[self.position + 1 :]])
        return self.linear(changed.reshape(x.shape))


def slow_attributions(model: EditableModel, rows: Rows, steps: int, deltas: Deltas) -> Tensor:
    """One row, answer token, layer and scale at a time, in transformers' own model."""
    found = []
    for row in range(len(rows)):
        one = rows.select(torch.tensor([row]))
        mine = edited(model, deltas, int(one.edit_index)) if deltas else model
        at = one.answers()
        of_tokens = [
            torch.stack([slow_layer(mine, one, at, t, layer, steps) for layer in range(3)])
            for t in range(len(at.row))
        ]
        found.append(torch.stack(of_tokens).mean(0))
    return torch.stack(found)


def slow_layer(
    model: EditableModel, one: Rows, at: Answers, token: int, layer: int, steps: int
) -> Tensor:
    total = torch.zeros(n_neurons(model)).double()
    for k in range(1, steps + 1):
        changed = copy.deepcopy(model)
        parent, _, name = changed.decoder.sites["mlp_out"].rpartition(".")
        block = changed.decoder.layers[layer].get_submodule(parent)
        scaled = Scaled(getattr(block, name), int(at.position[token]), k / steps)
        setattr(block, name, scaled)
        logits = plain(changed, one)[0, at.position[token]]
        (gradient,) = torch.autograd.grad(logits.softmax(-1)[at.target[token]], scaled.point)
        total += scaled.full * gradient
    return total / steps


def plain(model: EditableModel, one: Rows) -> Tensor:
    inputs: dict[str, Any] = {"input_ids": one.input_ids, "use_cache": False}
    if one.pixel_values is not None:
        inputs["pixel_values"] = one.pixel_values.to(model.hf.dtype)
    # BLIP-2's own forward asks for a picture, so text alone goes to its language model.
    blind = model.family == "blip2" and one.pixel_values is None
    return (model.hf.language_model if blind else model.hf)(**inputs).logits


def without_padding(kind: str) -> list[Rows]:
    """Each row alone, and every edit's number kept."""
    return [rows_of([prompt]) for prompt in prompts(pictures=kind in PICTURED)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ["unedited", "dense", "low-rank"])
def test_equals_the_slow_reference(kind: str, case: str) -> None:
    model = any_model(kind).double()
    dense = case == "dense"
    deltas = {} if case == "unedited" else doubled(random_deltas(model, layers=2, dense=dense))
    found = attributions(model, rows_for(kind, extra=2), steps=STEPS, deltas=deltas)
    slow = torch.cat([slow_attributions(model, r, STEPS, deltas) for r in without_padding(kind)])
    assert found.shape == (4, 3, n_neurons(model))
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-6 * float(slow.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_padding_side_and_company_do_not_matter(kind: str) -> None:
    model = any_model(kind).double()
    deltas = doubled(random_deltas(model, layers=2, dense=False))
    together = attributions(model, rows_for(kind), steps=STEPS, deltas=deltas)
    left = attributions(model, rows_for(kind, padding="left", extra=3), steps=STEPS, deltas=deltas)
    alone = [attributions(model, r, steps=STEPS, deltas=deltas) for r in without_padding(kind)]
    tolerance = {"rtol": 0, "atol": 1e-6 * float(together.abs().max())}
    torch.testing.assert_close(left, together, **tolerance)
    torch.testing.assert_close(torch.cat(alone), together, **tolerance)


@pytest.mark.parametrize("kind", ["llava", "blip2", "gpt2"])
@pytest.mark.parametrize("memory", [1, 20_000])
def test_parts_that_fit_into_memory_are_the_whole(
    kind: str, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = any_model(kind).double(), rows_for(kind)
    deltas = doubled(random_deltas(model, layers=2, dense=False))
    whole = attributions(model, rows, steps=5, deltas=deltas)
    assert neurons._at_once(model, rows, 5)[0] > len(rows.answers().row)
    monkeypatch.setattr(model, "budget", MemoryBudget(8 * memory))
    tokens, copies = neurons._at_once(model, rows, 5)
    assert tokens == 1
    assert copies < 5
    parts = attributions(model, rows, steps=5, deltas=deltas)
    torch.testing.assert_close(parts, whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_rows_give_what_copied_tokens_give(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, rows = any_model(kind).double(), rows_for(kind, extra=1)
    deltas = doubled(random_deltas(model, layers=2, dense=True))
    copied = attributions(model, rows, steps=STEPS, deltas=deltas)
    monkeypatch.setattr(neurons, "_in_one_part", lambda *_: True)
    monkeypatch.setattr(neurons, "_read", lambda *_: pytest.fail("a beginning was read"))
    whole = attributions(model, rows, steps=STEPS, deltas=deltas)
    torch.testing.assert_close(whole, copied, rtol=0, atol=1e-6 * float(copied.abs().max()))


def rise(model: EditableModel, rows: Rows, deltas: Deltas) -> Tensor:
    """P(wbar) - P(0) of each layer, mean over a row's answer tokens, by whole passes: (R, L)."""
    at, found = rows.answers(), []
    state = model.prefix(rows, 0)
    for layer in range(model.n_layers):
        changes = []
        for token in range(len(at.row)):
            row, position = at.row[token], at.position[token]

            def silence(
                _module: nn.Module, args: tuple[Tensor, ...], row: Tensor = row,
                position: Tensor = position,
            ) -> tuple[Tensor, ...]:  # fmt: skip
                whole = args[0].reshape(len(rows), -1, args[0].shape[-1]).clone()
                whole[row, position] = 0
                return (whole.reshape(args[0].shape),)

            def probability(
                row: Tensor = row, position: Tensor = position, token: int = token
            ) -> Tensor:
                logits = model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
                return logits[row, position].softmax(-1)[at.target[token]]

            with torch.no_grad():
                full = probability()
                handle = model.linear(Site(layer, "mlp_out")).register_forward_pre_hook(silence)
                changes.append(full - probability())
                handle.remove()
        found.append(at.row_mean(torch.stack(changes)))
    return torch.stack(found, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_s_attributions_sum_up_to_what_it_adds(kind: str) -> None:
    model, rows = any_model(kind).double(), rows_for(kind)
    deltas = doubled(random_deltas(model, layers=2, dense=True))
    expected = rise(model, rows, deltas)
    largest = float(expected.abs().max())
    errors = [
        float((attributions(model, rows, steps=m, deltas=deltas).sum(-1) - expected).abs().max())
        for m in (4, 20, 100)  # the error of a sum of rectangles falls as 1 / m
    ]
    assert errors[2] < 5e-2 * largest
    assert errors[2] < errors[1] / 3 < errors[0] / 9


@pytest.mark.parametrize("family", ["qwen2_vl", "gemma3"])
def test_models_that_must_read_a_row_at_once(family: str, tmp_path: Path) -> None:
    model = load_model("auto", str(save(family, tmp_path))).double()
    shows = load_processor("auto", str(tmp_path)).picture_ids
    slot = load_processor("auto", str(tmp_path)).image_token_id
    token_rows = [[30, *shows, 41, 52, 63, 74], [30, 44, 55, 66, 77, 88]]
    width = max(map(len, token_rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in token_rows])
    mask = torch.tensor([[n < len(row) for n in range(width)] for row in token_rows])
    answer = torch.zeros_like(mask)
    for row, tokens in enumerate(token_rows):
        answer[row, len(tokens) - 2 : len(tokens)] = True
    pixels = torch.randn(1, *picture_shape(tmp_path), generator=torch.Generator().manual_seed(2))
    rows = model.encode_pictures(
        Rows(ids, mask, answer, ids == slot, torch.tensor([0, -1]), pixels.double(),
             torch.tensor([0, 1]))
    )  # fmt: skip
    assert neurons._in_one_part(model, rows)
    deltas = doubled(random_deltas(model, layers=1, dense=False))
    found = attributions(model, rows, steps=STEPS, deltas=deltas)
    slow = by_suffix(model, rows, STEPS, deltas)
    torch.testing.assert_close(found, slow, rtol=0, atol=1e-6 * float(slow.abs().max()))


def by_suffix(model: EditableModel, rows: Rows, steps: int, deltas: Deltas) -> Tensor:
    """The same through `prefix` and `suffix`, one answer token, layer and scale at a time."""
    at, state = rows.answers(), model.prefix(rows, 0)
    total = torch.zeros(len(rows), model.n_layers, n_neurons(model)).double()
    for token, (row, position) in enumerate(
        zip(at.row.tolist(), at.position.tolist(), strict=True)
    ):
        for layer, k in itertools.product(range(model.n_layers), range(1, steps + 1)):
            seen: list[Tensor] = []

            def scale(
                _module: nn.Module, args: tuple[Tensor, ...], seen: list[Tensor] = seen,
                place: tuple[int, int] = (row, position), by: float = k / steps,
            ) -> tuple[Tensor, ...]:  # fmt: skip
                whole = args[0].detach().reshape(len(rows), -1, args[0].shape[-1]).clone()
                seen += [whole[place].clone(), (by * whole[place]).requires_grad_()]
                whole[place] = seen[1]
                return (whole.reshape(args[0].shape),)

            handle = model.linear(Site(layer, "mlp_out")).register_forward_pre_hook(scale)
            logits = model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
            handle.remove()
            p = logits[row, position].softmax(-1)[at.target[token]]
            total[row, layer] += seen[0] * torch.autograd.grad(p, seen[1])[0] / steps
    return total / rows.answer_mask.sum(1)[:, None, None]


def picture_shape(folder: Path) -> tuple[int, ...]:
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return tuple(load_processor("auto", str(folder)).pixels(Image.fromarray(noise)).shape)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
def test_deltas_of_zero_change_nothing(dense: bool) -> None:
    model, rows = llava().double(), rows_for("llava")
    nothing = {
        site: DenseDelta(delta.weight * 0)
        if isinstance(delta, DenseDelta)
        else LowRankDelta(delta.inputs, delta.outputs * 0)
        for site, delta in doubled(random_deltas(model, layers=2, dense=dense)).items()
    }
    plainly = attributions(model, rows, steps=STEPS)
    assert torch.equal(attributions(model, rows, steps=STEPS, deltas=nothing), plainly)


def test_nothing_is_left_in_the_model() -> None:
    model, rows = llava(), rows_for("llava")
    attributions(model, rows, steps=1)  # the vision tower puts in hooks of its own, once
    weights, hooks = copy.deepcopy(model.state_dict()), hooks_in(model)
    deltas = random_deltas(model, layers=2, dense=True)
    found = attributions(model, rows, steps=2, deltas=deltas)
    assert not found.requires_grad
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert hooks_in(model) == hooks
    with pytest.raises(ValueError, match="steps >= 1"):
        attributions(model, rows, steps=0)


def hooks_in(model: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def test_half_precision_keeps_small_probabilities() -> None:
    model, rows = llava(dtype=torch.bfloat16), rows_for("llava")
    found = attributions(model, rows, steps=STEPS)
    assert found.dtype == torch.float32
    exact = attributions(copy.deepcopy(model).double(), rows, steps=STEPS)
    largest = float(exact.abs().max())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=0.1 * largest)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_an_update_by_neuron(kind: str, dense: bool) -> None:
    model = any_model(kind)
    deltas = random_deltas(model, layers=2, dense=dense)
    inner = n_neurons(model)
    assert inner == (INNER if kind == "llama" else 4 * 16)
    found = update_by_neuron(deltas, inner)
    for site, delta in deltas.items():
        weight = delta.dense()  # (E, d_out, d_in)
        of_neuron = weight if site.role == "mlp_in" else weight.mT
        torch.testing.assert_close(found[site], of_neuron.norm(dim=-1) ** 2, rtol=1e-4, atol=1e-5)
        shape = linear_weight(model.linear(site)).shape
        assert weight.shape[1:] == shape


def test_a_gate_beside_the_first_matrix_counts_and_attention_has_no_neurons() -> None:
    weight = torch.zeros(1, 3, 2)
    weight[0, 1] = torch.tensor([3.0, 4.0])
    outer, inner = torch.tensor([[[0.0, 1.0, 0.0]]]), torch.tensor([[[3.0, 4.0]]])
    for delta in (DenseDelta(weight), LowRankDelta(inner, outer)):
        deltas = {Site(0, role): delta for role in ("mlp_gate", "query", "key")}
        found = update_by_neuron(deltas, 3)
        assert {site: of.tolist() for site, of in found.items()} == {
            Site(0, "mlp_gate"): [[0.0, 25.0, 0.0]]
        }


def test_a_gate_in_the_first_matrix_belongs_to_its_neuron() -> None:
    weight = torch.zeros(1, 6, 2)  # gates of three neurons, then their values
    weight[0, 1], weight[0, 4] = torch.tensor([3.0, 0.0]), torch.tensor([0.0, 4.0])
    found = update_by_neuron({Site(0, "mlp_in"): DenseDelta(weight)}, 3)
    assert found[Site(0, "mlp_in")].tolist() == [[0.0, 25.0, 0.0]]
