"""A generated answer ends where the model has no position for another token."""

from __future__ import annotations

import logging
from typing import Literal

import pytest
import torch

from datamodules.prompt_encoder import PromptEncoder
from editors.base import Edit, Editor
from editors.none.editor import Unedited
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.predictions import Predictions
from lightning_modules.scoring import Comparison
from models.editable import EditableModel
from models.rows import EditBatch, RowText
from tests.builders import inputs
from tests.editors import ike
from tests.ike_cases import InOrder, batch_of, model_and_encoder
from tests.serac_cases import picture_model, stirred, worded_batch

LONG = 12  # tokens that an answer may have where there is room


def generated(
    model: EditableModel, encoder: PromptEncoder, editor: Editor, batch: EditBatch
) -> tuple[Edit, dict[int, list[int]]]:
    """The edit, and what is said after every row."""
    state = model.prefix(batch.rows, editor.first_layer(model))
    edit, at = editor.edit(model, batch, state), batch.rows.answers()
    with torch.no_grad():
        pre = Predictions.of(model.suffix(state, at=at))
        post = Predictions.of(edit.answer(model, batch.rows, state, at))
    check = FiniteCheck(batch, model, editor.name)
    generator = Generator(model, encoder, editor.first_layer(model), LONG, check)
    every = torch.arange(len(batch.rows))
    return edit, generator.generate(edit, batch.rows, every, Comparison(at, pre, post))


def one_by_one(
    model: EditableModel, encoder: PromptEncoder, text: RowText, before: str, limit: int
) -> list[int]:
    """Greedy answers, a whole pass for every token, until nothing more has a position."""
    row = encoder.encode(text.question, text.answer, plain=text.plain or bool(before),
                         before=before)  # fmt: skip
    prompt, n_target = row.ids[: row.answer.index(True)], sum(row.answer)
    said: list[int] = []
    while len(said) < max(LONG, n_target) and len(prompt) + len(said) < limit:
        with torch.no_grad():
            logits = model.hf(input_ids=torch.tensor([prompt + said]), use_cache=False).logits
        said.append(int(logits[0, -1].argmax()))
        if said[-1] == encoder.tokenizer.eos_token_id:
            return said[:-1]
        if "\n" in encoder.decode(said[-1:]):
            break
    return said


@pytest.mark.parametrize(
    ("kind", "padding"),
    [("llama", "right"), ("llama", "left"), ("opt", "right"), ("opt", "left"), ("gpt2", "right")],
)
@pytest.mark.parametrize("room", [0, 1, 5])
def test_an_answer_ends_at_the_last_position(
    kind: str, room: int, padding: Literal["right", "left"], caplog: pytest.LogCaptureFixture
) -> None:
    _, encoder = model_and_encoder(kind, padding=padding)
    batch = batch_of(encoder, [3, 8])
    limit = int(batch.rows.attention_mask.sum(1).max()) + room
    model, _ = model_and_encoder(kind, padding=padding, positions=limit)
    with caplog.at_level(logging.WARNING):
        _, said = generated(model, encoder, Unedited(), batch)
    expected = [one_by_one(model, encoder, text, "", limit) for text in batch.rows.texts]
    assert [said[row] for row in range(len(expected))] == expected
    assert any(len(ids) < LONG for ids in expected)
    assert f"end where the model has no more positions ({limit} in all)" in caplog.text


@pytest.mark.parametrize("kind", ["llama", "opt"])
@pytest.mark.parametrize("room", [0, 4, 60])
def test_an_answer_goes_on_behind_the_demonstrations_that_it_began_with(
    kind: str, room: int
) -> None:
    _, encoder = model_and_encoder(kind)
    editor, batch = ike(encoder, InOrder(), k=6), batch_of(encoder, [3])
    model, _ = model_and_encoder(kind)
    whole = editor.edit(model, batch, model.prefix(batch.rows, 2))
    before = "".join(whole.demonstrations[0][4:]) + whole.statements[0]
    limit = room + max(
        len(encoder.encode(text.question, text.answer, plain=True, before=before).ids)
        for text in batch.rows.texts
    )
    model, _ = model_and_encoder(kind, positions=limit)
    edit, said = generated(model, encoder, editor, batch)
    assert edit.report()["demonstrations_shown"] == [2 if room < 60 else 3]  # type: ignore[attr-defined]
    shown = "".join(whole.demonstrations[0][4 - (room == 60) :]) + whole.statements[0]
    for row, text in enumerate(batch.rows.texts):
        assert said[row] == one_by_one(model, encoder, text, shown, limit)


def test_the_counterfactual_model_has_an_end_of_its_own() -> None:
    model, encoder = picture_model(), inputs().encoder
    editor, batch = stirred(model, combine="soft"), worded_batch([4])
    text = batch.rows.texts[0]
    entry = f"{text.question} {text.answer}\n"
    rows = [encoder.encode(**text.tokens, before=entry) for text in batch.rows.texts]
    limit = max(len(row.ids) for row in rows) + 3
    _, everything = generated(model, encoder, editor, batch)
    editor.counterfactual.lm.config.max_position_embeddings = limit
    _, said = generated(model, encoder, editor, batch)
    for number, row in enumerate(rows):
        room = limit - row.answer.index(True)
        assert said[number] == everything[number][:room]
    assert any(len(said[number]) < len(everything[number]) for number in said)
