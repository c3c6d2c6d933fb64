"""The state on entering a layer, split by edit and put together again: the same in any batch."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from models import packing as packing_module
from models.edit_states import joined, split, tokens_of
from models.editable import EditableModel
from models.packing import pack
from models.rows import Rows
from models.state import LayerState, PrefixState
from tests.builders import PICTURED, Prompt, any_model, rows_of
from tests.unit.models.test_packing import E, drawn_prompts

LAYER = 2


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many buckets as lengths allow, so that several are tested."""
    monkeypatch.setattr(packing_module, "_BUCKET", 8)


@cache
def model_of(kind: str, attention: str = "sdpa") -> EditableModel:
    model = any_model(kind)
    model.hf.set_attn_implementation(attention)
    return model


def another_batch(prompts: list[Prompt], seed: int) -> tuple[list[Prompt], list[int]]:
    """Some edits of a batch under other numbers, their rows mixed, beside an edit of another one.

    Returns:
        The rows, and of each edit that is left its number in the first batch.
    """
    draw = random.Random(seed)
    left = draw.sample(range(E), draw.randint(1, E))
    moved = [replace(one, edit=left.index(one.edit)) for one in prompts if one.edit in left]
    moved += [Prompt((5, 4, 6, 8), 1, len(left)), Prompt((5, 4, 7), 2, len(left))]
    draw.shuffle(moved)
    return moved, left


def in_one_order(prompts: list[Prompt], edit: int) -> Tensor:
    """The rows of an edit, in an order that knows nothing of the batch."""
    rows = [number for number, prompt in enumerate(prompts) if prompt.edit == edit]
    rows.sort(key=lambda row: (str(prompts[row].picture), prompts[row].tokens, prompts[row].answer))
    return torch.tensor(rows)


def assert_same(got: PrefixState, true: PrefixState) -> None:
    """All of two states, but for what stands on padding."""
    assert got.layer == true.layer
    for part, expected in zip(got.parts, true.parts, strict=True):
        assert part.packing is not None
        assert part.numbers is not None
        assert expected.numbers is not None
        assert torch.equal(part.numbers, expected.numbers)
        filled = part.packing.part(part.numbers).filled
        torch.testing.assert_close(part.hidden[filled], expected.hidden[filled])
        assert_alike(part.kwargs, expected.kwargs)


def assert_alike(got: Any, true: Any) -> None:
    if isinstance(true, Mapping):
        assert got.keys() == true.keys()
        for key in true:
            assert_alike(got[key], true[key])
    elif isinstance(true, tuple):
        for one, other in zip(got, true, strict=True):
            assert_alike(one, other)
    elif isinstance(true, Tensor):
        assert torch.equal(got, true)
        assert got.dtype == true.dtype
    else:
        assert got == true


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.booleans())
def test_edits_come_back_in_any_batch(seed: int, pictures: bool) -> None:
    model, prompts = model_of("llava"), drawn_prompts(seed, pictures=pictures)
    state = model.prefix(rows_of(prompts), LAYER, packed=True)
    known = split(state, [in_one_order(prompts, edit) for edit in range(E)])
    moved, left = another_batch(prompts, seed)
    rows = rows_of(moved, padding="left", extra=1)
    true = model.prefix(rows, LAYER, packed=True)
    edits = [in_one_order(moved, edit) for edit in range(len(left) + 1)]
    vectors = [*(known[number] for number in left), split(true, edits[-1:])[0]]
    got = joined(model, pack(rows), LAYER, edits, vectors)
    assert_same(got, true)
    for vector, again in zip(vectors, split(got, edits), strict=True):
        assert torch.equal(vector, again)


@pytest.mark.parametrize("kind", [*PICTURED, "llama", "opt", "gpt2"])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_family_goes_on_from_it(kind: str, attention: str) -> None:
    model, prompts = model_of(kind, attention), drawn_prompts(7, pictures=kind in PICTURED)
    rows = rows_of(prompts)
    state = model.prefix(rows, LAYER, packed=True)
    edits = [in_one_order(prompts, edit) for edit in range(E)]
    again = joined(model, pack(rows), LAYER, edits, split(state, edits))
    assert_same(again, state)
    at = rows.answers()
    assert torch.equal(model.suffix(again, at=at), model.suffix(state, at=at))


@given(st.integers(0, 10_000))
def test_a_token_that_rows_share_stands_once(seed: int) -> None:
    prompts = drawn_prompts(seed, pictures=False)
    packing, rows = pack(rows_of(prompts)), in_one_order(prompts, 0)
    tokens = tokens_of(packing, rows)
    ids = packing.source(rows_of(prompts).input_ids)[tokens.sequence, tokens.place].tolist()
    assert ids == _shown_first([prompts[row].tokens for row in rows.tolist()])


def _shown_first(rows: Sequence[Sequence[int]]) -> list[int]:
    seen: dict[tuple[int, ...], None] = {}
    for row in rows:
        for length in range(1, len(row) + 1):
            seen.setdefault(tuple(row[:length]))
    return [path[-1] for path in seen]


def test_other_tokens_and_other_forms_are_refused() -> None:
    model, prompts = model_of("llava"), drawn_prompts(3, pictures=False)
    rows: Rows = rows_of(prompts)
    edits = [in_one_order(prompts, edit) for edit in range(E)]
    known = split(model.prefix(rows, LAYER, packed=True), edits)
    with pytest.raises(ValueError, match=r"has \d+ tokens, and \d+ are known"):
        joined(model, pack(rows), LAYER, edits, [known[0][:-1], *known[1:]])
    with pytest.raises(ValueError, match="not packed"):
        split(model.prefix(rows, LAYER), edits)


def test_a_state_takes_what_lies_in_memory_once() -> None:
    """A mask that is expanded over heads and handed to layers of two kinds is one mask."""
    hidden, table = torch.zeros(2, 3, 4), torch.zeros(1, 3, 8)
    mask = torch.zeros(2, 1, 3, 3).expand(2, 5, 3, 3)
    kwargs = {kind: {"mask": mask, "tables": (table, table)} for kind in ("full", "sliding")}
    both = PrefixState((LayerState(hidden, kwargs), LayerState(hidden.clone(), kwargs)), 0)
    assert both.nbytes == 4 * (2 * hidden.numel() + 2 * 3 * 3 + table.numel())
