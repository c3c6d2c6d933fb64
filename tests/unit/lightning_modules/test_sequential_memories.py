"""Edits that are stored, not written: SERAC's memory and IKE's facts, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from editors.base import Lasting
from editors.ike.editor import Ike, IkeEdit
from editors.ike.retrieval import Sentences, nearest_stored
from editors.serac.memory import Memory
from editors.serac.scope import Scope
from models.editable import EditableModel
from models.rows import EditBatch, Rows
from tests.editors import ike
from tests.ike_cases import ENCODER, InOrder, batch_of, model_and_encoder
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch

STORED = (3, 0, 5)  # in the order in which they are made


def under_one(rows: Rows) -> Rows:
    """Every row under edit 0, as edits in sequence are asked."""
    return replace(rows, edit_index=torch.zeros_like(rows.edit_index))


@pytest.mark.parametrize("combine", ["soft", "hard"])
@pytest.mark.parametrize("pictures", [False, True])
def test_seracs_rows_see_every_entry(combine: str, pictures: bool) -> None:
    model = picture_model()
    editor = stirred(model, combine=combine)
    edits = [
        made(model, editor, looked(model, worded_batch([number], pictures=pictures)))[0]
        for number in STORED
    ]
    kept = None
    for edit in edits:
        assert isinstance(edit, Lasting)
        kept = edit.after(kept)
    assert kept is not None
    assert [entry.text for entry in kept.memory.entries] == [
        edit.memory.entries[0].text for edit in edits
    ]
    batch = looked(model, worded_batch(STORED, pictures=pictures))
    rows, at = under_one(batch.rows), batch.rows.answers()
    state = model.prefix(rows, editor.first_layer(model))
    with torch.no_grad(), kept.in_place(model):
        found = kept.answer(model, rows, state, at)
        memory = Memory([edit.memory.entries[0] for edit in edits])
        expected = editor.recall(memory).answer(model, batch.rows, state, at)
        own = made(model, editor, batch)[0].retrieved(batch.rows)[0]
        scope, entry = kept.retrieved(rows)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert bool((scope >= own - 1e-5).all()), "the best of all entries is no worse than one's own"
    assert len(entry.unique()) == len(STORED)


def test_a_growing_memory_embeds_each_entry_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    scope = stirred(model).scope
    entries = [
        made(model, stirred(model), looked(model, worded_batch([n], pictures=n % 2 == 0)))[
            0
        ].memory.entries[0]
        for n in range(4)
    ]
    said: list[str] = []
    embed = Scope.embed

    def counted(self: Scope, texts: Sequence[str], *rest: Tensor | None) -> Tensor:
        said.extend(texts)
        return embed(self, texts, *rest)

    monkeypatch.setattr(Scope, "embed", counted)
    memory = Memory()
    with torch.no_grad():
        for entry in entries:
            memory = memory.add(entry)
            found = memory.embedded(scope)
        assert said == [entry.text for entry in entries]
        torch.testing.assert_close(found, Memory(entries).embedded(scope), atol=1e-5, rtol=1e-5)
        scope.encoder.embeddings.position_embeddings.weight.mul_(2)  # type: ignore[union-attr, operator]
        moved = memory.embedded(scope)
        torch.testing.assert_close(moved, Memory(entries).embedded(scope), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(moved, found)


def test_seracs_first_entry_is_a_single_edit() -> None:
    model = picture_model()
    editor, batch = stirred(model), looked(model, worded_batch([4], pictures=True))
    edit, state = made(model, editor, batch)
    at = batch.rows.answers()
    with torch.no_grad():
        alone = edit.answer(model, batch.rows, state, at)
        kept = edit.after(None).answer(model, batch.rows, state, at)
    torch.testing.assert_close(kept, alone, atol=0, rtol=0)


@pytest.fixture(scope="module")
def sentences() -> Sentences:
    return Sentences(ENCODER, torch.device("cpu"))


def stored_edits(
    editor: Ike, model: EditableModel, batches: list[EditBatch]
) -> tuple[list[IkeEdit], IkeEdit]:
    """Single edits, and all of them stored."""
    edits, kept = [], None
    for batch in batches:
        edit = editor.edit(model, batch, model.prefix(batch.rows, editor.first_layer(model)))
        assert isinstance(edit, Lasting)
        edits.append(edit)
        kept = edit.after(kept)
    assert kept is not None
    return edits, kept


@pytest.mark.parametrize("kind", ["llama", "llava"])
def test_ikes_questions_are_asked_under_the_nearest_fact(kind: str, sentences: Sentences) -> None:
    model, encoder = model_and_encoder(kind)
    editor = ike(encoder, InOrder(), k=2, sentences=sentences)
    batches = [batch_of(encoder, [number], pictures=kind == "llava") for number in STORED]
    edits, kept = stored_edits(editor, model, batches)
    asked = [text.question for text in batches[1].rows.texts]
    facts = sentences.alone([batch.rows.texts[0].question for batch in batches])
    nearest = (sentences.alone(asked) @ facts.mT).argmax(1).tolist()
    assert nearest[:2] == [1, 1], "a fact's own question and its paraphrase find it"
    rows, at = under_one(batches[1].rows), batches[1].rows.answers()
    state = model.prefix(rows, editor.first_layer(model))
    with torch.no_grad():
        found = kept.answer(model, rows, state, at)
        alone = [edit.answer(model, rows, state, at) for edit in edits]
    for row, number in enumerate(nearest):
        here = at.row == row
        torch.testing.assert_close(found[here], alone[number][here], atol=2e-5, rtol=1e-4)
        others = [one for place, one in enumerate(alone) if place != number]
        assert all((found[here] - one[here]).abs().max() > 1e-3 for one in others)
    assert kept.report()["demonstrations_shown"] == [2.0] * len(STORED)


def test_ikes_first_fact_is_a_single_edit_and_needs_no_search() -> None:
    model, encoder = model_and_encoder("llama")
    editor = ike(encoder, InOrder(), k=2)
    batch = batch_of(encoder, [3])
    (edit,), kept = stored_edits(editor, model, [batch])
    state, at = model.prefix(batch.rows, editor.first_layer(model)), batch.rows.answers()
    with torch.no_grad(), kept.in_place(model):
        found = kept.answer(model, batch.rows, state, at)
    torch.testing.assert_close(found, edit.answer(model, batch.rows, state, at), atol=0, rtol=0)
    _, both = stored_edits(editor, model, [batch, batch_of(encoder, [4])])
    with pytest.raises(ValueError, match="sentence encoder"):
        both.answer(model, batch.rows, state, at)


def test_of_the_same_question_the_newest_fact_counts(sentences: Sentences) -> None:
    stored = ["Where is Lisburg located?", "Who founded Tama?", "Where is Lisburg located?"]
    asked = ["Where is Lisburg located?", "Who founded Tama?", "Which place is Lisburg in?"]
    assert nearest_stored(sentences, stored, asked) == [2, 1, 2]
    assert nearest_stored(sentences, stored[:2], asked) == [0, 1, 0]
