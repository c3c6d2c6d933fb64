"""Greedy decoding behind keys and values against whole passes over ever longer rows."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch

from models import packing
from models.budget import MemoryBudget
from models.decoding import Decoding, rows_at_once
from models.rows import Answers
from tests.builders import PICTURED, Prompt, any_model, rows_of
from tests.unit.models.test_packing import drawn_prompts, random_deltas

KINDS = (*PICTURED, "llama", "opt", "gpt2")
STEPS = 4


@pytest.mark.parametrize("edited", [True, False])
@pytest.mark.parametrize(
    ("kind", "pictures"),
    [*((kind, False) for kind in KINDS), *((kind, True) for kind in PICTURED)],
)
def test_every_step_gives_what_a_whole_pass_gives(
    kind: str, pictures: bool, edited: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing, "_BUCKET", 8)
    model, draw = any_model(kind), random.Random(1)
    prompts = drawn_prompts(5, pictures=pictures)
    deltas = random_deltas(model, model.n_layers) if edited else {}
    rows = rows_of(prompts)
    last = rows.attention_mask.sum(1) - 1
    every = torch.arange(len(rows))
    decoded = Decoding(model, rows, Answers(every, last, every, len(rows)), deltas)
    logits, going = decoded.first(), list(range(len(rows)))
    for step in range(STEPS):
        longer = rows_of(prompts)
        at = Answers(every, longer.attention_mask.sum(1) - 1, every, len(rows))
        with torch.no_grad():
            expected = model(longer, deltas=deltas, at=at)
        torch.testing.assert_close(logits[going], expected[going], rtol=1e-5, atol=1e-5)
        going = going[: len(going) - 2 * (step == 1)]  # some rows end earlier
        tokens = [draw.randrange(4, 9) for _ in going]
        prompts = [
            replace(prompt, tokens=(*prompt.tokens, tokens[going.index(row)]))
            if row in going
            else prompt
            for row, prompt in enumerate(prompts)
        ]
        with torch.no_grad():
            logits = decoded.step(torch.tensor(going), torch.tensor(tokens))


def test_rows_go_on_together_as_far_as_memory_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = any_model("llama")
    width = model.hf.config.hidden_size
    budget = MemoryBudget(2 * 10 * 2 * model.n_layers * width * 4)
    monkeypatch.setattr(model, "budget", budget)
    assert list(rows_at_once(model, [4, 6, 3, 20, 1])) == [
        range(0, 2), range(2, 3), range(3, 4), range(4, 5)
    ]  # fmt: skip


def test_what_stands_behind_the_last_token_is_not_looked_at() -> None:
    model = any_model("llama")
    prompt = Prompt((4, 5, 6), 1)
    first = torch.zeros(1, dtype=torch.int64)
    longer = rows_of([replace(prompt, tokens=(*prompt.tokens, 9))])
    logits = []
    for rows in (rows_of([prompt]), longer):
        decoded = Decoding(model, rows, Answers(first, first + 2, first, 1), {})
        with torch.no_grad():
            logits.append((decoded.first(), decoded.step(first, first + 7)))
    for alone, behind in zip(*logits, strict=True):
        torch.testing.assert_close(alone, behind)
