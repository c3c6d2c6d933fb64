"""Packed rows against rows one by one: the same numbers of every pass, from fewer tokens."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from models import packing as packing_module
from models.budget import PASS_SHARE, MemoryBudget, layer_values
from models.deltas import Delta, LowRankDelta, Site, linear_shape
from models.editable import EditableModel
from models.factors import Factors
from models.packing import pack
from models.rows import TEXT_ONLY, Rows
from models.state import attention_mask
from tests.builders import PICTURED, SLOTS, Prompt, any_model, rows_of

KINDS = (*PICTURED, "llama", "opt", "gpt2")
E = 3  # edits


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many buckets as lengths allow, so that several are tested."""
    monkeypatch.setattr(packing_module, "_BUCKET", 8)


def drawn_prompts(seed: int, *, pictures: bool) -> list[Prompt]:
    """Rows of three edits, mixed: some begin alike, some are equal but for the answer."""
    draw = random.Random(seed)
    prompts: list[Prompt] = []
    for edit in range(E):
        beginnings = [tuple(draw.randrange(4, 9) for _ in range(draw.randint(1, 6))) for _ in "ab"]
        for number in range(draw.randint(2, 6)):
            rest = tuple(draw.randrange(4, 7) for _ in range(draw.randint(2, 5)))
            picture = draw.choice([None, 0, 1, 2]) if pictures else None
            tokens = (*draw.choice(beginnings), *rest)
            answer = draw.randint(1, min(3, len(tokens) - 1))
            prompts.append(Prompt(tokens, answer, edit, picture, picture_at=number % 2))
    draw.shuffle(prompts)
    return prompts


def paths(rows: Rows) -> list[list[int]]:
    """Of each row its tokens, without padding; a slot is told from others' by its picture."""
    pictures = rows.image_index.tolist()
    keys = torch.where(rows.image_slots, -2 - rows.image_index[:, None], rows.input_ids)
    assert all(picture >= TEXT_ONLY for picture in pictures)
    return [row[real].tolist() for row, real in zip(keys, rows.attention_mask, strict=True)]


def test_many_rows_of_one_edit_are_several_sequences(monkeypatch: pytest.MonkeyPatch) -> None:
    """As those of a whole batch are under edits in sequence; alike ones stay together longer."""
    prompts = [replace(p, edit=0) for seed in range(5) for p in drawn_prompts(seed, pictures=True)]
    rows = rows_of(prompts)
    whole, longest = pack(rows), max(map(len, paths(rows)))
    monkeypatch.setattr(packing_module, "_LONG", 2 * longest)
    several = pack(rows)
    assert_paths(several, rows)
    assert int(several.filled.sum(1).max()) <= 4 * longest < int(whole.filled.sum(1).max())
    model = any_model("llava")
    answers = rows.answers()
    alone = [torch.tensor([number]) for number in range(len(rows))]
    expected = torch.cat([model(rows.select(one), at=answers.select(one)) for one in alone])
    packed = model.suffix(model.prefix(rows, 1, packed=True), at=answers)
    torch.testing.assert_close(packed, expected, atol=1e-4, rtol=1e-4)
    alike = rows_of([Prompt((5, *range(4, 12), last), 1) for last in range(20, 60)])
    assert len(pack(alike).filled) == 1
    assert len(pack(rows_of([Prompt((5, *range(4, 12), n % 60), 1) for n in range(90)])).filled) > 1


@given(st.integers(0, 10_000), st.booleans(), st.sampled_from(["left", "right"]))
def test_a_token_looks_at_its_own_row_and_at_nothing_else(
    seed: int, pictures: bool, padding: str
) -> None:
    rows = rows_of(drawn_prompts(seed, pictures=pictures), padding=padding, extra=2)
    draw = torch.Generator().manual_seed(seed)
    some = torch.randint(len(rows), (4,), generator=draw).unique()
    whole = pack(rows)
    selected, old, places = whole.select(some)
    assert_paths(whole, rows)
    assert_paths(selected, rows.select(some))
    tokens = whole.source(rows.input_ids)[old[:, None], places]
    assert torch.equal(tokens * selected.filled, selected.source(rows.input_ids[some]))


def assert_paths(packed: packing_module.Packing, rows: Rows) -> None:
    """Each row is read in its order, at its positions, and shares what it can."""
    looks_at, keys = packed.mask()[:, 0], paths(rows)
    for row, real in enumerate(rows.attention_mask):
        sequence = int(packed.sequence[row])
        places = packed.position[row][real].tolist()
        assert packed.depth[sequence, places].tolist() == list(range(len(places)))
        for count, place in enumerate(places, 1):
            assert looks_at[sequence, place].nonzero().squeeze(1).tolist() == places[:count]
    of_edit: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for row, path in enumerate(keys):
        nodes = of_edit.setdefault((int(rows.edit_index[row]), int(rows.image_index[row])), set())
        nodes |= {tuple(path[:length]) for length in range(1, len(path) + 1)}
    distinct = sum(map(len, of_edit.values()))
    one_place_a_node = not bool((rows.image_index != TEXT_ONLY).any())
    assert int(packed.filled.sum()) >= distinct
    if one_place_a_node:  # a picture behind words of its row may stand in several trees
        assert int(packed.filled.sum()) == distinct


def random_deltas(model: EditableModel, layers: int) -> dict[Site, Delta]:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> Tensor:
        return 0.1 * torch.randn(*shape, generator=draw)

    deltas: dict[Site, Delta] = {}
    for site in model.last_sites(layers):
        d_in, d_out = linear_shape(model.linear(site))
        deltas[site] = LowRankDelta(normal(E, 2, d_in), normal(E, 2, d_out))
    return deltas


@pytest.mark.parametrize(
    ("kind", "pictures"),
    [*((kind, False) for kind in KINDS), *((kind, True) for kind in PICTURED)],
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_pass_gives_what_it_gives_row_by_row(
    kind: str, pictures: bool, attention: str
) -> None:
    model = any_model(kind)
    model.hf.set_attn_implementation(attention)
    rows = rows_of(drawn_prompts(7, pictures=pictures))
    at, deltas, layer = rows.answers(), random_deltas(model, 2), model.n_layers - 2
    alone, packed = model.prefix(rows, layer), model.prefix(rows, layer, packed=True)
    assert len(packed.parts) > 1
    assert sum(part.hidden[..., 0].numel() for part in packed.parts) < alone.hidden[..., 0].numel()
    below = {site: delta for site, delta in deltas.items() if site.layer == layer}
    last = Site(model.n_layers - 1, "mlp_out")
    close = {"rtol": 1e-5, "atol": 1e-5}
    row = torch.arange(len(rows))
    first = rows.attention_mask.int().argmax(1)
    some = torch.tensor([5, 0, 3, 1])
    sub = rows.select(some)
    teaching = torch.stack([(rows.edit_index == edit).nonzero()[0, 0] for edit in range(E)])
    taught = rows.select(teaching).answers()
    with torch.no_grad():
        for passed in (
            lambda state: model.suffix(state, at=at),
            lambda state: model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at),
            lambda state: model.suffix(state, deltas=deltas, edit_index=rows.edit_index)[
                rows.attention_mask
            ],
            lambda state: model.suffix(
                state.select(some), deltas=deltas, edit_index=sub.edit_index, at=sub.answers()
            ),
            lambda state: model.answer_state(state, at),
            lambda state: torch.cat(model.read(state, next(iter(deltas)), row, first + 1), -1),
            lambda state: torch.cat(
                model.read(
                    model.advance(state, layer + 1, deltas=below, edit_index=rows.edit_index),
                    last,
                    row,
                    first + 1,
                ),
                -1,
            ),
        ):
            torch.testing.assert_close(passed(packed), passed(alone), **close)
    sites = list(deltas)
    factors, logits = model.capture(packed.select(teaching), sites, taught)
    expected, its_logits = model.capture(alone.select(teaching), sites, taught)
    torch.testing.assert_close(logits, its_logits, **close)
    for site in sites:
        for got, true in zip(_pairs(factors[site]), _pairs(expected[site]), strict=True):
            torch.testing.assert_close(got, true, **close)


def _pairs(factors: Factors) -> list[Tensor]:
    """Inputs and gradients of each edit's tokens that have a gradient, edit by edit."""
    pairs = []
    for x, delta, mask in zip(factors.x, factors.delta, factors.mask, strict=True):
        alive = mask & (delta != 0).any(-1)
        pairs += [x[alive], delta[alive]]
    return pairs


def test_rows_of_two_edits_share_nothing() -> None:
    rows = rows_of([Prompt((4, 5, 6, 7), 1, edit) for edit in (0, 1)])
    assert pack(rows).sequence.tolist() == [0, 1]
    assert pack(replace(rows, edit_index=torch.zeros(2, dtype=torch.int64))).filled.sum() == len(
        paths(rows)[0]
    )


def test_questions_in_text_stand_behind_a_shorter_picture() -> None:
    longest = Prompt((4, 5, 6, 7, 8, 9, 10, 11, 12), 1, 0, picture=0)
    prompts = [longest, Prompt((4, 5), 1, 0, picture=1), Prompt((6, 7), 1, 0)]
    packed = pack(rows_of(prompts))
    assert packed.sequence.tolist() == [0, 1, 1]
    assert packed.filled.shape[1] == SLOTS + len(longest.tokens)


def test_masks_of_numbers_add_nothing_where_a_key_is_seen() -> None:
    packed = pack(rows_of(drawn_prompts(3, pictures=False)))
    seen = packed.mask()
    added = attention_mask(packed, torch.float32)
    assert bool((added[seen] == 0).all())
    assert bool((added[~seen] == torch.finfo(torch.float32).min).all())


@pytest.mark.parametrize("kind", ["llava", "llama"])
def test_a_pass_reads_no_more_than_memory_allows(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one sequence, which is read as a whole."""
    monkeypatch.setattr(packing_module, "_BUCKET", 512)
    model = any_model(kind)
    rows = rows_of(drawn_prompts(7, pictures=kind == "llava"))
    at, deltas, layer = rows.answers(), random_deltas(model, 2), model.n_layers - 2

    def answers() -> tuple[list[tuple[int, int]], Tensor]:
        state = model.prefix(rows, layer, packed=True)
        with torch.no_grad():
            logits = model.suffix(state, deltas=deltas, edit_index=rows.edit_index, at=at)
        return [(len(part.hidden), part.hidden[..., 0].numel()) for part in state.parts], logits

    few, whole = answers()
    each = layer_values(model.hf.config.get_text_config()) * model.dtype.itemsize
    for most in (30, 1):
        monkeypatch.setattr(model, "budget", MemoryBudget(math.ceil(most * each / PASS_SHARE)))
        many, logits = answers()
        assert all(tokens <= most or n == 1 for n, tokens in many)
        assert len(many) > len(few)
        torch.testing.assert_close(logits, whole, rtol=1e-5, atol=1e-5)
