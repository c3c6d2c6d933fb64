"""Every linear map of a decoder layer, in every layer: edited, read, and seen by a gradient.

The reference is a whole forward pass of transformers over a copy whose weight was overwritten.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from errors import ModelError
from models import packing
from models.decoding import Decoding
from models.deltas import Delta, DenseDelta, LowRankDelta, Site, linear_shape
from models.editable import EditableModel
from models.rows import Answers, Rows
from models.sites import ATTENTION_ROLES, MLP_ROLES, ROLES, Role
from models.state import PrefixState
from tests.builders import edited, rows_of, text_model
from tests.unit.models.test_packing import E, drawn_prompts

HAS: dict[str, tuple[Role, ...]] = {
    "llama": ROLES, "opt": (*ATTENTION_ROLES, *MLP_ROLES), "gpt2": MLP_ROLES,
}  # fmt: skip
KINDS = ("llama", "opt")
EXACT = {"rtol": 1e-10, "atol": 1e-10}
# Llama's rotary tables are of float32: a token at another position is another one by 1e-7.
PADDED = pytest.mark.parametrize(
    ("padding", "packed"), [("right", True), ("right", False), ("left", False)]
)


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many buckets as lengths allow, so that rows stand in several parts."""
    monkeypatch.setattr(packing, "_BUCKET", 8)


@pytest.fixture(params=KINDS)
def model(request: pytest.FixtureRequest) -> EditableModel:
    found = text_model(request.param, key_heads=1)  # Llama's queries are of two heads
    found.hf.double()
    return found


def rows_for(padding: str = "right") -> Rows:
    return rows_of(drawn_prompts(11, pictures=False), padding=padding, extra=1)


def every_site(model: EditableModel) -> list[Site]:
    return [Site(layer, role) for layer in range(model.n_layers) for role in model.decoder.sites]


def deltas_at(model: EditableModel, sites: Iterable[Site], *, dense: bool) -> dict[Site, Delta]:
    draw = torch.Generator().manual_seed(5)

    def normal(*shape: int) -> Tensor:
        return 0.3 * torch.randn(*shape, generator=draw, dtype=torch.float64)

    deltas: dict[Site, Delta] = {}
    for site in sites:
        d_in, d_out = linear_shape(model.linear(site))
        deltas[site] = (
            DenseDelta(normal(E, d_out, d_in))
            if dense
            else LowRankDelta(normal(E, 2, d_in), normal(E, 2, d_out))
        )
    return deltas


def plain(model: EditableModel, rows: Rows) -> Tensor:
    """The library's own forward pass."""
    return model.hf(input_ids=rows.input_ids, attention_mask=rows.attention_mask.long()).logits


@torch.no_grad()
def overwritten(model: EditableModel, deltas: dict[Site, Delta], rows: Rows) -> Tensor:
    """Logits (R, T, V), each row by a copy of the model with its edit's weights in it."""
    logits = torch.stack([plain(edited(model, deltas, edit), rows) for edit in range(E)])
    return logits[rows.edit_index, torch.arange(len(rows))]


def states(model: EditableModel, rows: Rows, layer: int) -> dict[str, PrefixState]:
    return {
        name: model.prefix(rows, layer, packed=name == "packed") for name in ("alone", "packed")
    }


@pytest.mark.parametrize("kind", HAS)
def test_a_decoder_has_the_maps_that_its_architecture_has(kind: str) -> None:
    model = text_model(kind)
    assert tuple(model.decoder.sites) == HAS[kind]
    modules = [model.linear(Site(1, role)) for role in HAS[kind]]
    inside = [type(m) for m in model.decoder.layers[1].modules() if hasattr(m, "weight")]
    assert len(set(map(id, modules))) == len(HAS[kind])
    if kind != "gpt2":  # its attention's three maps are one
        assert len(modules) == inside.count(torch.nn.Linear)
    missing = [role for role in ROLES if role not in HAS[kind]]
    for role in missing:
        with pytest.raises(ModelError, match=rf"^{role} of .* are {', '.join(HAS[kind])}\. Set "):
            model.last_sites(2, [role, "mlp_in"])
        with pytest.raises(ModelError, match=f"^{role} of a decoder layer was asked for"):
            model.linear(Site(0, role))


@pytest.mark.parametrize("dense", [True, False], ids=["dense", "low-rank"])
def test_an_edit_of_one_map_is_its_weight_overwritten(model: EditableModel, dense: bool) -> None:
    rows = rows_for()
    at, unedited = rows.answers(), plain(model, rows)
    for site in every_site(model):
        deltas = deltas_at(model, [site], dense=dense)
        expected = overwritten(model, deltas, rows)
        assert (expected - unedited)[at.row, at.position].abs().max() > 1e-3, site
        for name, state in states(model, rows, site.layer).items():
            answers = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
            whole = model.suffix(state, deltas=deltas, edit_index=rows.edit_index)
            wanted, real = expected[at.row, at.position], rows.attention_mask
            torch.testing.assert_close(answers, wanted, **EXACT, msg=f"{site} {name}")
            torch.testing.assert_close(whole[real], expected[real], **EXACT, msg=f"{site} {name}")


@PADDED
def test_edits_of_all_maps_are_the_same_side_by_side_and_alone(
    model: EditableModel, padding: str, packed: bool
) -> None:
    rows = rows_for(padding)
    deltas, at = deltas_at(model, every_site(model), dense=False), rows.answers()
    state = model.prefix(rows, 0, packed=packed)
    together = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    expected = overwritten(model, deltas, rows)
    torch.testing.assert_close(together, expected[at.row, at.position], **EXACT)
    for edit in range(E):
        mine = (rows.edit_index == edit).nonzero()[:, 0]
        own = rows.select(mine)
        alone = {site: delta.of(torch.tensor([edit])) for site, delta in deltas.items()}
        answers = model.suffix(
            model.prefix(own, 0), deltas=alone, edit_index=own.edit_index * 0, at=own.answers()
        )
        torch.testing.assert_close(answers, together[torch.isin(at.row, mine)], **EXACT)


@PADDED
def test_factors_are_the_gradient_of_each_weight(
    model: EditableModel, padding: str, packed: bool
) -> None:
    rows = rows_for(padding)
    order = rows.edit_index.argsort(stable=True)
    rows = rows.select(order)
    at, sites = rows.answers(), every_site(model)
    state = model.prefix(rows, 0, packed=packed)
    together, _ = model.capture(state, sites, at, edit=rows.edit_index)
    for edit in range(E):
        graded = copy.deepcopy(model)
        weights = [graded.linear(site).get_parameter("weight") for site in sites]
        for weight in weights:
            weight.requires_grad_(True)
        own = rows.select((rows.edit_index == edit).nonzero()[:, 0])
        asked = own.answers()
        logits = plain(graded, own)[asked.row, asked.position]
        nll = F.cross_entropy(logits, asked.target, reduction="none")
        gradients = torch.autograd.grad(asked.row_mean(nll).mean(), weights)
        for site, gradient in zip(sites, gradients, strict=True):
            part = together[site]
            delta = part.delta[edit] * part.mask[edit][:, None]
            assert gradient.abs().max() > 1e-6, site
            torch.testing.assert_close(delta.mT @ part.x[edit], gradient, **EXACT, msg=str(site))


def test_the_graph_of_a_capture_begins_at_any_map(model: EditableModel) -> None:
    rows = rows_for()
    at = rows.answers()
    together, _ = model.capture(model.prefix(rows, 0), every_site(model), at)
    for site in every_site(model):
        (alone,) = model.capture(model.prefix(rows, site.layer), [site], at)[0].values()
        at_answers = site.layer == model.n_layers - 1 and site.role not in ATTENTION_ROLES
        assert alone.mask.shape[1] == (3 if at_answers else rows.input_ids.shape[1])
        for side in ("x", "delta"):
            expected = getattr(together[site], side)[together[site].mask]
            torch.testing.assert_close(getattr(alone, side)[alone.mask], expected, **EXACT)


@pytest.mark.parametrize(
    ("padding", "packed", "attention"),
    [
        ("right", True, "sdpa"),
        ("right", False, "sdpa"),
        ("right", False, "eager"),
        ("left", False, "sdpa"),
    ],
)
def test_a_token_without_a_past_has_no_gradient_at_its_query(
    model: EditableModel, padding: str, packed: bool, attention: str
) -> None:
    """Not even one by rounding, which an editor that normalises would take for a gradient."""
    model.hf.set_attn_implementation(attention)
    for rows in (rows_for(padding), rows_for(padding).select(torch.tensor([0]))):
        sites = model.last_sites(model.n_layers, ["query", "key"])
        factors, _ = model.capture(model.prefix(rows, 0, packed=packed), sites, rows.answers())
        first = rows.attention_mask.int().argmax(1) * (not packed)  # packed ones have no padding
        for site, part in factors.items():
            of_first = part.delta[torch.arange(len(rows)), first].abs().amax(-1)
            assert (of_first.max() > 1e-6) == (site.role == "key"), site
            assert site.role == "key" or (of_first == 0).all(), site
            assert part.delta.abs().max() > 1e-6


def test_answers_only_are_a_choice_of_all_tokens_factors(model: EditableModel) -> None:
    rows = rows_for()
    at, sites = rows.answers(), every_site(model)
    state = model.prefix(rows, 0)
    whole, _ = model.capture(state, sites, at)
    cut, _ = model.capture(state, sites, at, answers_only=True)
    for site in sites:
        if model.is_at_answers(site):
            continue
        for side in ("x", "delta"):
            expected = getattr(whole[site], side)[at.row, at.position]
            torch.testing.assert_close(getattr(cut[site], side)[cut[site].mask], expected, **EXACT)


@torch.no_grad()
def test_what_a_map_reads_and_writes(model: EditableModel) -> None:
    rows = rows_for()
    row = torch.arange(len(rows))
    deltas = deltas_at(model, every_site(model), dense=False)
    one = {site: delta.of(torch.tensor([1])) for site, delta in deltas.items()}
    changed = edited(model, one, 0)
    for site in every_site(model):
        seen: list[tuple[Tensor, Tensor]] = []
        handle = changed.linear(site).register_forward_hook(
            lambda _module, args, output, seen=seen: seen.append((args[0], output))
        )
        plain(changed, rows)
        handle.remove()
        with model.deltas_in_place(one):
            x, y = model.read(model.prefix(rows, site.layer, packed=True), site, row, row * 0 + 2)
            torch.testing.assert_close(model.weight(site), changed.weight(site), **EXACT)
        for found, whole in zip((x, y), seen[0], strict=True):
            expected = whole.reshape(*rows.input_ids.shape, -1)[row, 2]
            torch.testing.assert_close(found, expected, **EXACT, msg=str(site))


def test_edits_follow_on_each_other_at_every_map(model: EditableModel) -> None:
    """What is captured and answered on top of an edit in place is that of its weights."""
    rows = rows_for()
    at, sites = rows.answers(), every_site(model)
    deltas = deltas_at(model, sites, dense=False)
    first = {site: delta.of(torch.tensor([2])) for site, delta in deltas.items()}
    changed = edited(model, first, 0)
    expected, _ = changed.capture(changed.prefix(rows, 0), sites, at)
    answers = overwritten(changed, deltas, rows)[at.row, at.position]
    with model.deltas_in_place(first):
        state = model.prefix(rows, 0, packed=True)
        factors, _ = model.capture(state.apart(), sites, at)
        found = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
    torch.testing.assert_close(found, answers, **EXACT)
    for site, part in factors.items():
        got = (part.delta * part.mask[..., None]).mT @ part.x
        wanted = expected[site]
        gradient = (wanted.delta * wanted.mask[..., None]).mT @ wanted.x
        torch.testing.assert_close(got, gradient, **EXACT, msg=str(site))


@torch.no_grad()
@pytest.mark.parametrize("roles", [ATTENTION_ROLES, None], ids=["attention", "all"])
def test_tokens_go_on_from_the_edited_keys_and_values(
    model: EditableModel, roles: tuple[Role, ...] | None
) -> None:
    rows = rows_for()
    sites = model.last_sites(model.n_layers, roles or list(model.decoder.sites))
    deltas = deltas_at(model, sites, dense=False)
    last, every = rows.attention_mask.sum(1) - 1, torch.arange(len(rows))
    decoded = Decoding(model, rows, Answers(every, last, every, len(rows)), deltas)
    logits = decoded.first()
    ids = [
        row[real].tolist() for row, real in zip(rows.input_ids, rows.attention_mask, strict=True)
    ]
    for step in range(3):
        longer = torch.zeros(len(ids), max(map(len, ids)), dtype=torch.int64)
        for row, tokens in enumerate(ids):
            longer[row, : len(tokens)] = torch.tensor(tokens)
        real = (
            torch.arange(longer.shape[1]) < torch.tensor([len(tokens) for tokens in ids])[:, None]
        )
        whole = Rows(
            longer, real, real & False, real & False, rows.image_index, None, rows.edit_index
        )
        expected = overwritten(model, deltas, whole)[every, real.sum(1) - 1]
        torch.testing.assert_close(logits, expected, **EXACT)
        tokens = (every * 7 + step) % 90 + 4
        ids = [[*row, int(token)] for row, token in zip(ids, tokens, strict=True)]
        logits = decoded.step(every, tokens)


def test_answers_are_finished_from_the_last_mlp_on_and_from_nowhere_else(
    model: EditableModel,
) -> None:
    rows = rows_for()
    at = rows.answers()
    state = model.prefix(rows, 0)
    hidden, edit = model.answer_state(state, at), rows.edit_index[at.row]
    for site in every_site(model):
        deltas = deltas_at(model, [site], dense=True)
        if not model.is_at_answers(site):
            with pytest.raises(ModelError, match=f"{site.role} in layer {site.layer} is edited"):
                model.finish_answers(hidden, deltas, edit)
            continue
        expected = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
        torch.testing.assert_close(model.finish_answers(hidden, deltas, edit), expected, **EXACT)


def test_maps_of_the_last_layers_are_named_from_the_top_of_each_down() -> None:
    model = text_model("llama")
    assert model.last_sites(2) == [
        Site(layer, role) for layer in (1, 2) for role in ("mlp_out", "mlp_in")
    ]
    assert model.last_sites(1, ["key", "mlp_gate", "mlp_out", "query"]) == [
        Site(2, role) for role in ("mlp_out", "mlp_gate", "key", "query")
    ]
