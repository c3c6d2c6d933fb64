"""How many tokens a model reads at once, and that no longer row reaches it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, OPTConfig, PretrainedConfig, Qwen2VLConfig

from analysis.attribution import attributions
from errors import ModelError
from models.context import answer_with_shared_prefix
from models.editable import EditableModel
from models.positions import UNLIMITED, max_positions
from models.rows import Rows
from tests.builders import (
    PICTURED,
    SLOTS,
    VOCABULARY,
    Prompt,
    rows_of,
    text_model,
)

LIMIT = 40


def small(kind: str) -> EditableModel:
    """A random model that reads LIMIT tokens; OPT's table of positions ends there."""
    if kind in PICTURED:
        return PICTURED[kind](positions=LIMIT)
    return text_model(kind, positions=LIMIT)


def prompt(length: int, *, seed: int, picture: int | None = None, edit: int = 0) -> Prompt:
    """A row of so many tokens, those of its picture among them."""
    draw = random.Random(seed)
    words = length - (0 if picture is None else SLOTS)
    return Prompt(tuple(draw.randrange(4, VOCABULARY) for _ in range(words)), 2, edit, picture)


def scaled(kind: str, **more: Any) -> LlamaConfig:
    rope = {"rope_type": kind, "rope_theta": 10000.0, "factor": 4.0, **more}
    return LlamaConfig(max_position_embeddings=64, rope_parameters=rope)


def test_scaled_rotary_positions_are_counted_as_the_model_was_trained() -> None:
    llama3 = {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
    assert max_positions(LlamaConfig(max_position_embeddings=64)) == 64
    assert max_positions(scaled("linear")) == 256
    assert max_positions(scaled("dynamic")) == 64
    assert max_positions(scaled("yarn", original_max_position_embeddings=64)) == 256
    assert max_positions(scaled("yarn", original_max_position_embeddings=8)) == 64
    assert max_positions(scaled("llama3", original_max_position_embeddings=16, **llama3)) == 64
    factors = {"short_factor": [1.0] * 64, "long_factor": [1.0] * 64}
    assert max_positions(scaled("longrope", original_max_position_embeddings=16, **factors)) == 16


def test_the_language_models_part_of_a_configuration_counts() -> None:
    text = {"max_position_embeddings": 48, "hidden_size": 8, "num_attention_heads": 2}
    assert max_positions(Qwen2VLConfig(text_config=text)) == 48
    assert max_positions(OPTConfig(max_position_embeddings=48)) == 48
    assert max_positions(PretrainedConfig()) == UNLIMITED


@pytest.mark.parametrize("kind", [*PICTURED, "llama", "opt", "gpt2"])
def test_a_row_of_all_positions_is_read_as_it_is_alone_and_one_more_token_is_refused(
    kind: str,
) -> None:
    model, shown = small(kind), 0 if kind in PICTURED else None
    assert model.max_positions == LIMIT
    rows = rows_of([prompt(LIMIT, seed=1, picture=shown), prompt(9, seed=2)])
    found = model(rows, at=rows.answers())
    alone = rows.select(torch.tensor([0]))
    torch.testing.assert_close(found[:2], model(alone, at=alone.answers()), rtol=1e-5, atol=1e-5)
    longer = rows_of([prompt(9, seed=2), prompt(LIMIT + 1, seed=1, picture=shown)])
    ways: list[Callable[[Rows], object]] = [
        lambda rows: model.prefix(rows, 1),
        lambda rows: answer_with_shared_prefix(model, rows, rows.answers()),
        lambda rows: attributions(model, rows, steps=1),
    ]
    for way in ways:
        with pytest.raises(ModelError) as caught:
            way(longer)
        for part in (f"a row of {LIMIT + 1} tokens", f"reads {LIMIT}", "max_position_embeddings"):
            assert part in str(caught.value)


@pytest.mark.parametrize("kind", ["llava", "blip2", "opt"])
@pytest.mark.parametrize("padding", ["right", "left"])
def test_padding_is_no_token_that_a_model_reads(kind: str, padding: str) -> None:
    model = small(kind)
    rows = rows_of([prompt(LIMIT, seed=1), prompt(9, seed=2)], padding=padding)
    wide = rows_of([prompt(LIMIT, seed=1), prompt(9, seed=2)], padding=padding, extra=7)
    expected = model(rows, at=rows.answers())
    for found in (
        model(wide, at=wide.answers()),
        answer_with_shared_prefix(model, wide, wide.answers()),
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", [*PICTURED, "opt", "gpt2"])
def test_beside_a_long_beginning_and_a_long_end_all_positions_are_there(kind: str) -> None:
    """A row alone in its group is nearly all beginning; rows beside it go on for long."""
    model, shown = small(kind), 0 if kind in PICTURED else None
    prompts = [
        prompt(LIMIT, seed=1, picture=shown, edit=0),
        prompt(30, seed=2, edit=1),
        prompt(30, seed=3, edit=1),
    ]
    rows = rows_of(prompts)
    found = answer_with_shared_prefix(model, rows, rows.answers())
    for row, one in enumerate(prompts):
        alone = rows_of([one])
        expected = model(alone, at=alone.answers())
        torch.testing.assert_close(found[2 * row : 2 * row + 2], expected, rtol=1e-5, atol=1e-5)
