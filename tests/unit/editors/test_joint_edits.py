"""Edits that are taught in text and by a picture at once, by methods that store them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from editors.ike.demonstrations import demonstrate
from editors.ike.editor import IkeEdit
from editors.ike.retrieval import Sentences
from editors.serac.editor import SeracEdit
from lightning_modules.serac import SeracTraining, _Gold
from models.rows import EditBatch
from tests import editors
from tests.ike_cases import ENCODER, TRAINING, InOrder, model_and_encoder
from tests.ike_cases import batch_of as ike_batch
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch

EDITS = (1, 2, 4)


def joint(batch: EditBatch, beside: str) -> EditBatch:
    """The batch with the rows of a text probe as teaching rows in front of its own ones."""
    pairs = torch.stack([batch.probes[beside], batch.edit_rows], 1)
    return replace(batch, edit_rows=pairs.flatten())


def test_serac_stores_two_entries_and_a_row_reads_the_nearer_one() -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    both, state = made(model, editor, joint(batch, "locality_t_near"))
    assert [entry.picture is not None for entry in both.memory.entries] == [False, True] * 3
    assert both.owner is not None
    assert both.owner.tolist() == [0, 0, 1, 1, 2, 2]
    in_text, _ = made(model, editor, replace(batch, edit_rows=batch.probes["locality_t_near"]))
    shown, _ = made(model, editor, batch)
    with torch.no_grad():
        found, entry = both.retrieved(batch.rows)
        alone = torch.stack([edit.retrieved(batch.rows)[0] for edit in (in_text, shown)])
        torch.testing.assert_close(found, alone.amax(0))
        assert torch.equal(entry, 2 * batch.rows.edit_index + alone.argmax(0))
        assert set(entry.remainder(2).tolist()) == {0, 1}, "otherwise one entry would do"
        both.answer(model, batch.rows, state, batch.rows.answers())
    (shares,) = both.report().values()
    assert len(shares) == len(EDITS)
    kept = both.after(None)
    assert isinstance(kept, SeracEdit)
    assert len(kept.memory) == 6


def test_a_gold_entry_shows_a_picture_where_the_question_does() -> None:
    model = picture_model()
    editor = stirred(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    both, state = made(model, editor, joint(batch, "locality_t_near"))
    rows, at = batch.rows, batch.rows.answers()
    shows = (rows.image_index >= 0).long()
    with torch.no_grad():
        gold = _Gold(both).answer(model, rows, state, at)
        expected = both.counterfactual(rows, at, 2 * rows.edit_index + shows)
        other = both.counterfactual(rows, at, 2 * rows.edit_index + 1 - shows)
    torch.testing.assert_close(gold, expected)
    assert not torch.allclose(gold, other)


def test_hard_negatives_are_drawn_once_an_edit() -> None:
    """By the question that teaches it in text, however many rows teach it."""
    model = picture_model()
    batch = joint(looked(model, worded_batch(EDITS, pictures=True)), "locality_t_near")
    edit, _ = made(model, stirred(model), batch)
    asked: list[tuple[str, str]] = []

    class Drawing:
        def draw(self, step: int, question: str, subject: str) -> list[str]:
            asked.append((question, subject))
            return [f"Who is {subject}, {step}?"]

    training: Any = SimpleNamespace(trainer=SimpleNamespace(global_step=3))
    drawing: Any = Drawing()
    log_p = SeracTraining._drawn(training, batch, edit, drawing)
    assert len(log_p) == len(EDITS)
    first = [batch.rows.texts[row].question for row in batch.edit_rows[::2].tolist()]
    assert asked == list(zip(first, batch.subjects, strict=True))


def ike_edits() -> tuple[EditBatch, IkeEdit]:
    model, encoder = model_and_encoder("llava")
    batch = ike_batch(encoder, EDITS, pictures=True)
    paraphrases = torch.tensor(
        [row for row, text in enumerate(batch.rows.texts) if text.question.startswith("Which")]
    )
    batch = joint(replace(batch, probes={"beside": paraphrases}), "beside")
    editor = editors.ike(encoder, InOrder(), k=3)
    state = model.prefix(batch.rows, editor.first_layer(model))
    return batch, editor.edit(model, batch, state)


def test_ike_states_the_fact_in_both_wordings() -> None:
    batch, edit = ike_edits()
    texts = [batch.rows.texts[row] for row in batch.edit_rows.tolist()]
    assert len(edit.demonstrations) == len(edit.statements) == len(EDITS)
    for number, (text, shown) in enumerate(zip(texts[::2], texts[1::2], strict=True)):
        stated = [f"New Fact: {one.question} {one.answer}\n" for one in (text, shown)]
        copies = [
            f"{line}Prompt: {one.question} {one.answer}\n\n"
            for line, one in zip(stated, (text, shown), strict=True)
        ]
        assert edit.statements[number] == "".join([*copies, *stated, "Prompt: "])
        nearest = demonstrate(list(TRAINING[:3]), text.question, text.answer, seed=0)
        assert edit.demonstrations[number] == tuple(nearest)
    assert edit.questions == tuple(text.question for text in texts)
    assert edit.owner == (0, 0, 1, 1, 2, 2)


@pytest.mark.parametrize("first", [0, 1])
def test_stored_facts_are_found_by_either_of_their_wordings(first: int) -> None:
    batch, edit = ike_edits()
    editor = edit.editor
    editor.sentences = Sentences(ENCODER, torch.device("cpu"))
    stored = edit.after(edit.after(None))
    assert stored.owner == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    asked = batch.rows.select(batch.edit_rows[first::2])
    nearest: Tensor = stored._under_nearest(asked).edit_index
    assert nearest.tolist() == [3, 4, 5], "of the same question twice the newest counts"
