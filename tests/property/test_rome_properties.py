"""What must hold for any edit by ROME."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.rome.editor import Rome
from editors.rome.prompts import assemble
from editors.rome.update import factored, rank_one, unit_direction
from editors.rome.values import Values, optimise, project
from models.deltas import linear_weight
from models.editable import EditableModel
from tests import editors
from tests.rome_cases import FACTS, KINDS, PREFIXES, batch_of, model_and_encoder

SOME = settings(max_examples=15, deadline=None)
ESSENCE = "{subject} is a"
numbers = st.lists(st.integers(0, len(FACTS) - 1), min_size=2, max_size=5, unique=True)


@cache
def model_of(kind: str) -> tuple[EditableModel, PromptEncoder]:
    return model_and_encoder(kind)


def rome(encoder: PromptEncoder, layer: int, prefixes: tuple[str, ...]) -> Rome:
    return editors.rome(
        encoder, prefixes, layer=layer, kl_prompt=ESSENCE, steps=6, lr=0.5, weight_decay=0.1,
        clamp=3.0, kl=0.0625, stop_loss=8.0,
    )  # fmt: skip


def dense(kind: str, layer: int, chosen: Sequence[int], prefixes: tuple[str, ...]) -> Tensor:
    """The updates of some edits: (E, d_out, d_in)."""
    model, encoder = model_of(kind)
    editor, batch = rome(encoder, layer, prefixes), batch_of(encoder, chosen)
    edit = editor.edit(model, batch, model.prefix(batch.rows, layer))
    return edit.deltas[editor.site].dense()


@SOME
@given(
    kind=st.sampled_from(KINDS),
    layer=st.integers(0, 1),
    chosen=numbers,
    prefixes=st.sampled_from([(), PREFIXES]),
)
def test_an_update_has_rank_one_and_maps_the_key_to_the_value(
    kind: str, layer: int, chosen: list[int], prefixes: tuple[str, ...]
) -> None:
    model, encoder = model_of(kind)
    editor = rome(encoder, layer, prefixes)
    updates = dense(kind, layer, chosen, prefixes)
    module = model.linear(editor.site)
    weight, bias = linear_weight(module), getattr(module, "bias", None)
    for number, update in zip(chosen, updates, strict=True):
        batch = batch_of(encoder, [number])
        rows, prompts = assemble(
            encoder, batch.rows.texts[:1], batch.subjects,
            prefixes=prefixes, essence=ESSENCE, fact_token="subject_last",
        )  # fmt: skip
        state = model.prefix(rows, layer)
        values = Values(model, state, editor.site, prompts, editor.options)
        wanted = (values.v_0 + optimise(values))[0]
        asked = prompts.rewriting
        keys, _ = model.read(state, editor.site, asked, prompts.lookup[asked])
        said = (weight + update) @ keys[0]
        said = said if bias is None else said + bias
        assert (said - wanted).abs().max() <= 1e-4 * wanted.abs().max()
        direction = keys.mean(0) / keys.mean(0).norm()  # the only one in which W has changed
        moved = update @ direction
        scale = update.abs().max()
        if scale > 1e-5 * weight.abs().max():  # an edit may be done before its first step
            assert (update - torch.outer(moved, direction)).abs().max() <= 1e-4 * scale


@SOME
@given(kind=st.sampled_from(KINDS), layer=st.integers(0, 1), chosen=numbers, data=st.data())
def test_permuting_and_splitting_a_batch_changes_no_edit(
    kind: str, layer: int, chosen: list[int], data: st.DataObject
) -> None:
    whole = dense(kind, layer, chosen, PREFIXES)
    mixed = data.draw(st.permutations(chosen))
    cut = data.draw(st.integers(1, len(mixed) - 1))
    for part in (mixed[:cut], mixed[cut:]):
        expected = whole[[chosen.index(number) for number in part]]
        difference = (dense(kind, layer, part, PREFIXES) - expected).abs().max()
        assert difference <= 1e-4 * expected.abs().max()


@SOME
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3), edits=st.integers(1, 4))
def test_the_left_vector_solves_for_the_second_moment_whatever_its_scale(
    seed: int, scale: float, edits: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    root = torch.randn(9, 9, generator=draw, dtype=torch.float64)
    moment = (root @ root.mT) + 1e-4 * torch.eye(9, dtype=torch.float64)
    keys = torch.randn(edits, 9, generator=draw, dtype=torch.float64)
    left = unit_direction(keys, factored(moment))
    torch.testing.assert_close(left.norm(dim=1), torch.ones(edits, dtype=torch.float64))
    torch.testing.assert_close(
        left, unit_direction(keys, factored(moment * scale)), rtol=1e-6, atol=1e-9
    )
    back = left @ moment  # in the keys' own directions, forwards
    torch.testing.assert_close(
        torch.cosine_similarity(back, keys), torch.ones(edits, dtype=torch.float64)
    )


@SOME
@given(seed=st.integers(0, 1000), edits=st.integers(1, 4), wide=st.integers(2, 8))
def test_an_update_is_exact_at_its_key_and_silent_across_it(
    seed: int, edits: int, wide: int
) -> None:
    draw = torch.Generator().manual_seed(seed)
    left = torch.nn.functional.normalize(
        torch.randn(edits, wide, generator=draw, dtype=torch.float64), dim=1
    )
    keys = left + 0.1 * torch.randn(edits, wide, generator=draw, dtype=torch.float64)
    value, wanted = torch.randn(2, edits, 5, generator=draw, dtype=torch.float64)
    update = rank_one(left, keys, value, wanted).dense()
    torch.testing.assert_close(value + (update @ keys[..., None])[..., 0], wanted)
    other = torch.randn(edits, wide, generator=draw, dtype=torch.float64)
    other = other - (other * left).sum(1, keepdim=True) * left
    assert (update @ other[..., None]).abs().max() <= 1e-12 * update.abs().max()


@SOME
@given(lengths=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=5), limit=st.floats(1e-2, 1e2))
def test_the_projection_keeps_directions_and_shortens_only_what_is_too_long(
    lengths: list[float], limit: float
) -> None:
    draw = torch.Generator().manual_seed(0)
    unit = torch.nn.functional.normalize(
        torch.randn(len(lengths), 6, generator=draw, dtype=torch.float64), dim=1
    )
    long = torch.tensor(lengths, dtype=torch.float64)
    offsets = unit * long[:, None]
    project(offsets, torch.full_like(long, limit))
    torch.testing.assert_close(offsets, unit * long.clamp(max=limit)[:, None])


@SOME
@given(kind=st.sampled_from(KINDS), chosen=numbers)
def test_the_base_stays_as_it_is_bit_for_bit(kind: str, chosen: list[int]) -> None:
    model, _ = model_of(kind)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    dense(kind, 1, chosen, PREFIXES)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
