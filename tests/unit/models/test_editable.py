"""The model interface against plain forward passes of transformers' own classes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from errors import ModelError
from models.blip2 import Blip2
from models.deltas import (
    DenseDelta,
    Groups,
    Site,
    apply_deltas,
)
from models.editable import EditableModel
from models.minigpt4 import MiniGPT4
from models.multimodal import MultimodalModel
from models.rows import Rows
from tests.builders import (
    PICTURED,
    Prompt,
    any_model,
    blip2,
    edited,
    llava,
    minigpt4,
    random_deltas,
    rows_of,
    text_model,
)

KINDS = (*PICTURED, "gpt2", "opt", "llama")
EXACT = {"atol": 2e-6, "rtol": 2e-5}


def prompts(*, pictures: bool) -> list[Prompt]:
    shown = (None, 7, None, 8, 8, None) if pictures else (None,) * 6
    draw = torch.Generator().manual_seed(1)
    found = []
    for row, (picture, length) in enumerate(zip(shown, (12, 7, 9, 8, 5, 10), strict=True)):
        tokens = torch.randint(4, 97, (length,), generator=draw).tolist()
        found.append(Prompt(tuple(tokens), 1 + row % 3, row % 2, picture))
    return found


def rows_for(kind: str, *, padding: str = "right", extra: int = 0) -> Rows:
    return rows_of(prompts(pictures=kind in PICTURED), padding=padding, extra=extra)


def plain(model: EditableModel, rows: Rows) -> Tensor:
    """The library's own forward pass; pictures are given once per row that shows one."""
    arguments = {"input_ids": rows.input_ids, "attention_mask": rows.attention_mask.long()}
    if rows.pixel_values is not None:
        shown = rows.image_index[rows.image_index >= 0]
        arguments["pixel_values"] = rows.pixel_values[shown].to(model.hf.dtype)
    # BLIP-2's own forward asks for a picture, so text alone goes to its language model.
    blind = model.family == "blip2" and rows.pixel_values is None
    with torch.no_grad():
        return (model.hf.language_model if blind else model.hf)(**arguments).logits.float()


@pytest.mark.parametrize("kind", KINDS)
def test_prefix_and_suffix_are_the_plain_forward_from_every_layer(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind, extra=1)
    expected, at = plain(model, rows), rows.answers()
    for layer in range(model.n_layers):
        state = model.prefix(rows, layer)
        whole = model.suffix(state)
        real = rows.attention_mask
        torch.testing.assert_close(whole[real], expected[real], **EXACT)
        answers = model.suffix(state, at=at)
        torch.testing.assert_close(answers, expected[at.row, at.position], **EXACT)
        last = model.finish_answers(model.answer_state(state, at))
        torch.testing.assert_close(last, answers, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_advances_under_edits_as_the_edited_model_would_read_it(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    deltas = random_deltas(model, layers=2, dense=False)
    below = {site: delta for site, delta in deltas.items() if site.layer == 1}
    state, last = model.prefix(rows, 0), Site(2, "mlp_out")
    advanced = model.advance(state, 2, deltas=below, edit_index=rows.edit_index)
    leaving = model.advance(state, 3, deltas=deltas, edit_index=rows.edit_index)
    assert (advanced.layer, leaving.layer) == (2, 3)
    position = rows.attention_mask.int().argmax(1) + 2
    for edit in range(2):
        mine = (rows.edit_index == edit).nonzero().squeeze(1)
        at, close = (mine, position[mine]), {"atol": 2e-5, "rtol": 1e-4}
        changed = edited(model, below, edit)
        expected = changed.read(changed.prefix(rows, 0), last, *at)[0]
        torch.testing.assert_close(model.read(advanced, last, *at)[0], expected, **close)
        changed = edited(model, deltas, edit)
        stream = changed.decoder.norm(leaving.hidden[at])
        logits = changed.head_logits(stream)
        torch.testing.assert_close(logits, plain(changed, rows)[at], **close)
    unedited = model.read(state, last, torch.arange(len(rows)), position)[0]
    assert (
        model.read(advanced, last, torch.arange(len(rows)), position)[0] - unedited
    ).abs().max() > 1e-2


@pytest.mark.parametrize(("layer", "edited_layer"), [(0, None), (2, 0), (2, 2)])
def test_a_state_advances_neither_down_nor_under_deltas_out_of_reach(
    layer: int, edited_layer: int | None
) -> None:
    model, rows = text_model("llama"), rows_for("llama")
    deltas = random_deltas(model, layers=3, dense=False)
    chosen = {site: delta for site, delta in deltas.items() if site.layer == edited_layer}
    with pytest.raises(ModelError, match=f"a state at layer 1 cannot enter layer {layer}"):
        model.advance(model.prefix(rows, 1), layer, deltas=chosen, edit_index=rows.edit_index)


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_answer_under_their_own_edit(kind: str, dense: bool) -> None:
    model, rows = any_model(kind), rows_for(kind)
    deltas = random_deltas(model, layers=2, dense=dense)
    at = rows.answers()
    state = model.prefix(rows, 1)
    answers = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    whole = model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
    unedited = model.suffix(state, at=at)
    for edit in range(2):
        expected = plain(edited(model, deltas, edit), rows)
        mine = rows.edit_index[at.row] == edit
        torch.testing.assert_close(
            answers[mine], expected[at.row, at.position][mine], atol=2e-5, rtol=1e-4
        )
        real = rows.attention_mask & (rows.edit_index == edit)[:, None]
        torch.testing.assert_close(whole[real], expected[real], atol=2e-5, rtol=1e-4)
        assert (answers[mine] - unedited[mine]).abs().max() > 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_last_layer_edit_at_the_answer_tokens_alone(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    deltas, at = random_deltas(model, layers=1, dense=True), rows.answers()
    state = model.prefix(rows, 0)
    expected = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    hidden = model.answer_state(state, at)
    got = model.finish_answers(hidden, deltas, rows.edit_index[at.row])
    torch.testing.assert_close(got, expected, **EXACT)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("packed", [False, True])
def test_factors_of_answer_tokens_are_those_among_all_tokens(kind: str, packed: bool) -> None:
    model, rows = any_model(kind), rows_for(kind)
    state, sites, at = model.prefix(rows, 1, packed=packed), model.last_sites(2), rows.answers()
    whole, logits = model.capture(state.apart(), sites, at)
    factors, same = model.capture(state, sites, at, answers_only=True)
    torch.testing.assert_close(same, logits, **EXACT)
    for site in (site for site in sites if site.layer == 1):
        assert (~factors[site].mask).any()  # answers of several lengths
        for side in ("x", "delta"):
            every = getattr(whole[site], side)
            found = getattr(factors[site], side)[factors[site].mask]
            assert torch.equal(found, every[at.row, at.position])


@pytest.mark.parametrize("kind", KINDS)
def test_captured_factors_are_the_weight_gradient(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    edit_rows = torch.tensor([1, 4])
    state = model.prefix(rows, 0).select(edit_rows)
    own = rows.select(edit_rows)
    sites = model.last_sites(3)
    factors, logits = model.capture(state, sites, own.answers())
    assert not logits.requires_grad
    for edit, row in enumerate(edit_rows):
        one = rows.select(row[None])
        at = one.answers()
        copied = copy.deepcopy(model)
        for site in sites:
            copied.linear(site).weight.requires_grad_(True)
        arguments = {"input_ids": one.input_ids, "attention_mask": one.attention_mask.long()}
        if one.pixel_values is not None:
            arguments["pixel_values"] = one.pixel_values
        blind = kind == "blip2" and one.pixel_values is None
        called = copied.hf.language_model if blind else copied.hf
        predicted = called(**arguments).logits[at.row, at.position]
        F.cross_entropy(predicted, at.target).backward()
        for site in sites:
            part = factors[site]
            delta = part.delta[edit] * part.mask[edit][:, None]
            expected = copied.linear(site).weight.grad
            got = delta.mT @ part.x[edit]
            if got.shape != expected.shape or kind == "gpt2":
                got = got.mT
            torch.testing.assert_close(got, expected, atol=2e-6, rtol=2e-4)


@pytest.mark.parametrize("kind", [*PICTURED, "opt", "llama"])
def test_padding_side_and_amount_change_nothing(kind: str) -> None:
    model = any_model(kind)
    answers = []
    for padding, extra in (("right", 0), ("right", 5), ("left", 0), ("left", 3)):
        rows = rows_for(kind, padding=padding, extra=extra)
        deltas = random_deltas(model, layers=2, dense=False)
        state = model.prefix(rows, 1)
        answers.append(
            model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=rows.answers())
        )
    for other in answers[1:]:
        torch.testing.assert_close(other, answers[0], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", PICTURED)
def test_what_a_picture_shows_matters(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    assert rows.pixel_values is not None
    swapped = replace(rows, pixel_values=rows.pixel_values.flip(0))
    at, shown = rows.answers(), rows.image_index >= 0
    before, after = model(rows, at=at), model(swapped, at=at)
    assert (before - after)[shown[at.row]].abs().max() > 1e-2
    torch.testing.assert_close(after[~shown[at.row]], before[~shown[at.row]], **EXACT)


def test_a_vocabulary_without_an_image_token_marks_slots_by_minus_one() -> None:
    model, rows = minigpt4(), rows_for("minigpt4")
    unmarked = replace(rows, input_ids=rows.input_ids.masked_fill(rows.image_slots, -1))
    at = rows.answers()
    torch.testing.assert_close(model(unmarked, at=at), model(rows, at=at), atol=0, rtol=0)


@pytest.mark.parametrize("make", [blip2, minigpt4])
def test_the_q_former_computes_in_single_precision(make: Callable[..., MultimodalModel]) -> None:
    hf = make().hf.bfloat16()
    half = (Blip2 if make is blip2 else MiniGPT4)(hf)
    assert {p.dtype for p in hf.qformer.parameters()} == {torch.float32}
    assert hf.query_tokens.dtype == torch.float32
    assert hf.vision_model.dtype == half.linear(Site(0, "mlp_in")).weight.dtype == torch.bfloat16
    rows, single = rows_for("blip2"), make()
    features = half.picture_features(rows.pixel_values).float()
    expected = single.picture_features(rows.pixel_values)
    assert (features - expected).abs().max() < 0.05 * expected.abs().max()


def test_bfloat16_follows_edited_weights_to_its_rounding() -> None:
    model = llava(dtype=torch.bfloat16)
    rows = rows_for("llava")
    deltas, at = random_deltas(model, layers=2, dense=False), rows.answers()
    state = model.prefix(rows, 1)
    answers = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    assert answers.dtype == torch.float32
    single = copy.deepcopy(model)
    single.hf.float()
    state = single.prefix(rows, 1)
    expected = single.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    size = expected.abs().max()
    assert (answers - expected).abs().max() < 0.05 * size
    slow = torch.stack([plain(edited(model, deltas, e), rows)[at.row, at.position] for e in (0, 1)])
    slow = slow[rows.edit_index[at.row], torch.arange(len(at.row))]
    assert (answers - slow).abs().max() < 0.05 * size


def test_a_small_update_counts_where_a_bfloat16_weight_would_swallow_it() -> None:
    linear = nn.Linear(24, 16, bias=False).bfloat16().requires_grad_(False)
    linear.weight.fill_(1.25)
    x = torch.randn(1, 24, generator=torch.Generator().manual_seed(0)).bfloat16()
    update = 3e-3 * x.float().sign().expand(1, 16, 24)  # below half an ulp of 1.25 in bfloat16
    assert torch.equal(linear.weight + update[0].bfloat16(), linear.weight)
    site = Site(0, "mlp_in")
    before = linear(x)
    with apply_deltas({site: linear}, {site: DenseDelta(update)}, Groups(torch.tensor([0]), 1)):
        after = linear(x)
    moved = (after - before).float()
    torch.testing.assert_close(moved, x.float() @ update[0].mT, rtol=0.2, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_left_behind(kind: str) -> None:
    model, rows = any_model(kind), rows_for(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    deltas, state = random_deltas(model, layers=2, dense=True), model.prefix(rows, 1)
    hooks = all_hooks(model)  # after the first pass, when the library has put in its own
    model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=rows.answers())
    model.capture(state, model.last_sites(2), rows.answers())
    broken = {site: DenseDelta(delta.dense()[:, :-1]) for site, delta in deltas.items()}
    with pytest.raises(RuntimeError):
        model.suffix(state, deltas=broken, edit_index=rows.edit_index)
    with pytest.raises(ZeroDivisionError):
        model.capture(state, model.last_sites(2), rows.answers(), lambda *_: 1 / 0)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in model.parameters())
    assert all_hooks(model) == hooks


def all_hooks(model: EditableModel) -> list[tuple[str, int]]:
    return [
        (name, hook)
        for name, module in model.named_modules()
        for hook in (*module._forward_hooks, *module._forward_pre_hooks)
    ]


def test_the_base_stays_in_eval_mode() -> None:
    model = llava()
    assert not model.train().training
    assert not any(module.training for module in model.modules())


def test_rows_select_keeps_the_pictures_it_needs() -> None:
    rows = rows_for("llava")
    assert rows.pixel_values is not None
    assert len(rows.pixel_values) == 2
    part = rows.select(torch.tensor([3, 0]))
    assert part.pixel_values is not None
    torch.testing.assert_close(part.pixel_values[part.image_index[0]], rows.pixel_values[1])
    assert part.image_index.tolist() == [0, -1]
    assert rows.select(torch.tensor([0, 2])).pixel_values is None
    both = rows.select(torch.tensor([4, 1, 3]))
    assert both.image_index.tolist() == [1, 0, 1]


def test_answers_select_and_row_mean() -> None:
    at = rows_for("llava").answers()
    rows = torch.tensor([5, 2])
    part = at.select(rows)
    assert part.n_rows == 2
    for place, row in enumerate(rows):
        assert torch.equal(part.target[part.row == place], at.target[at.row == row])
    values = torch.arange(len(at.row)).float()
    expected = torch.stack([values[at.row == row].mean() for row in range(at.n_rows)])
    torch.testing.assert_close(at.row_mean(values), expected)


def test_fingerprint_tells_weights_apart_and_not_their_type() -> None:
    stored = text_model("llama")
    stored.hf.half()  # as released models are
    for dtype in (torch.float32, torch.bfloat16):
        loaded = copy.deepcopy(stored)
        loaded.hf.to(dtype)
        assert loaded.fingerprint() == stored.fingerprint()
    model = text_model("llama")
    assert text_model("llama", seed=1).fingerprint() != model.fingerprint()


def test_bad_requests_say_what_to_do() -> None:
    model, rows = llava(), rows_for("llava")
    with pytest.raises(ModelError, match="layers 0 to 2"):
        model.linear(Site(3, "mlp_in"))
    with pytest.raises(ModelError, match=r"editor\.layers to a number from 1 to 3"):
        model.last_sites(4)
    state = model.prefix(rows, 2)
    deltas = random_deltas(model, layers=2, dense=True)
    with pytest.raises(ModelError, match="below the state at layer 2"):
        model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
    with pytest.raises(ModelError, match="text-only model cannot see"):
        text_model("opt").embed(rows)
    short = Rows(**{**vars(rows), "image_slots": rows.image_slots & (rows.input_ids < 0)})
    with pytest.raises(ModelError, match="0 image slots, and this model gives 4"):
        model.embed(short)
