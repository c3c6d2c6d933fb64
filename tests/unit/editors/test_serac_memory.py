"""SERAC's memory: a value, on disk and back, and what it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from editors.serac.memory import Entry, Memory
from editors.serac.similarity import mix_soft
from errors import ModelError, TmkeError
from tests.disks import files_up_to
from tests.serac_cases import (
    looked,
    made,
    picture_model,
    stirred,
    worded_batch,
)

EDITS = (1, 2, 4)


def test_recall_takes_the_entry_that_bears_most() -> None:
    """Many edits in one memory: what each row is answered with, and with what weight."""
    model = picture_model()
    editor = stirred(model, scope={"scale": 1.0})
    batch = looked(model, worded_batch(EDITS))
    edit, state = made(model, editor, batch)
    remembered = editor.recall(edit.memory)
    at = batch.rows.answers()
    with torch.no_grad():
        queries = editor.scope.embed([text.question for text in batch.rows.texts])
        entries = editor.scope.embed([entry.text for entry in edit.memory.entries])
        similarity = editor.scope.compare(queries, entries)
        log_p, entry = remembered.retrieved(batch.rows)
        theirs = remembered.counterfactual(batch.rows, at, similarity.argmax(1))
        found = remembered.answer(model, batch.rows, state, at)
        expected = mix_soft(model.suffix(state, at=at), theirs, similarity.amax(1)[at.row])
    torch.testing.assert_close(log_p, similarity.amax(1))
    assert torch.equal(entry, similarity.argmax(1))
    assert len(entry.unique()) > 1
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_an_empty_memory_is_the_base_model(combine: str) -> None:
    model = picture_model()
    editor = stirred(model, combine=combine)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    _, state = made(model, editor, batch)
    nothing = editor.recall(Memory())
    found = nothing.answer(model, batch.rows, state, batch.rows.answers())
    assert torch.equal(found, model.suffix(state, at=batch.rows.answers()))
    assert not nothing.scope_probabilities(model, batch.rows, state).any()


def test_memory_adds_removes_and_stays_a_value() -> None:
    entries = [Entry(f"Question {n}?", f"answer {n}") for n in range(3)]
    memory = Memory(entries[:2])
    longer = memory.add(entries[2])
    assert [len(memory), len(longer)] == [2, 3]
    assert longer.entries == tuple(entries)
    assert longer.remove(0, 2).entries == (entries[1],)
    assert len(longer) == 3
    assert longer.entries[1].text == "Question 1? answer 1"
    with pytest.raises(ModelError, match=r"holds 3 edits, counted from 0; there is no edit 3"):
        longer.remove(3)
    with pytest.raises(ModelError, match="there is no edit -1"):
        longer.remove(-1)


def test_memory_is_read_as_it_was_written(tmp_path: Path) -> None:
    picture = torch.randn(16, dtype=torch.bfloat16)
    memory = Memory([Entry("Wo? Größe", "A\nB"), Entry("Who?", "C", picture)])
    memory.save(tmp_path / "memory")
    found = Memory.load(tmp_path / "memory")
    for ours, theirs in zip(memory.entries, found.entries, strict=True):
        assert ours.text == theirs.text
        assert (ours.picture is None) == (theirs.picture is None)
    assert torch.equal(found.entries[1].picture, picture)  # type: ignore[arg-type]
    Memory().save(tmp_path / "empty")
    assert len(Memory.load(tmp_path / "empty")) == 0


def test_a_damaged_memory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no memory that can be read"):
        Memory.load(tmp_path)
    Memory([Entry("Who?", "C")]).save(tmp_path)
    (tmp_path / "entries.json").write_text(json.dumps([{"question": "Who?"}]))
    with pytest.raises(ModelError, match=r"KeyError.*Memory\.save"):
        Memory.load(tmp_path)
    Memory([Entry("Who?", "C")]).save(tmp_path)
    (tmp_path / "pictures.safetensors").write_bytes(b"xx")
    with pytest.raises(ModelError, match=r"pictures\.safetensors cannot be read.*Memory\.save"):
        Memory.load(tmp_path)


def test_a_full_disk_leaves_the_earlier_memory(tmp_path: Path) -> None:
    folder = tmp_path / "memory"
    Memory([Entry("Who?", "C")]).save(folder)
    with files_up_to(4096), pytest.raises(TmkeError, match="memory cannot be written"):
        Memory([Entry("Where?", "D", torch.zeros(2000))]).save(folder)
    assert [entry.text for entry in Memory.load(folder).entries] == ["Who? C"]
    assert list(tmp_path.iterdir()) == [folder]


def test_embeddings_are_kept_until_a_weight_moves() -> None:
    model = picture_model()
    scope = stirred(model).scope
    memory = Memory([Entry("Where is Lisburg?", "Tama", torch.randn(16)), Entry("Who?", "Duva")])
    with torch.no_grad():
        first = memory.embedded(scope)
        assert memory.embedded(scope) is first
        scope.encoder.embeddings.position_embeddings.weight.mul_(2)  # type: ignore[union-attr, operator]
        second = memory.embedded(scope)
    assert not torch.allclose(first, second)
    with_graph = memory.embedded(scope)
    assert with_graph.requires_grad
    torch.testing.assert_close(with_graph.detach(), second)
    other = stirred(model, seed=9).scope
    with torch.no_grad():
        assert not torch.allclose(memory.embedded(other), second)
