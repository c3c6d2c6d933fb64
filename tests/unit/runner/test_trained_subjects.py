"""Subjects that an editor was trained on are no test, however they are spelled there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datamodules.overlap import Traces
from datamodules.records import KnowledgeEdit, Record
from datamodules.source import RecordSource
from editors.checkpoint import SUBJECTS, TERMS, TRACES
from errors import DataError
from runner import learnt, training


def source(tested: list[Record], **said: Any) -> RecordSource:
    return RecordSource(
        "vlkeb", Path(), {"test": tested}, plain_locality=False, filter_known="none", **said
    )


@pytest.mark.parametrize(
    ("trained", "is_test"),
    [
        ("Holden Caprice", False),
        ("HOLDEN\u00a0 caprice", False),
        ("Sa\u0303o Paulo", False),
        ("Holden Caprice II", True),
    ],
)
def test_a_trained_subject_is_refused_in_any_spelling(
    trained: str, is_test: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = {SUBJECTS: [trained, "Else"]}  # as an earlier version wrote it, without traces
    for module in (training, learnt):
        monkeypatch.setattr(module, "read_checkpoint", lambda path: content)
    monkeypatch.setattr(training.identity, "load_editor", lambda *arguments: None)
    edit = KnowledgeEdit(question="Who?", answer_new="Ida")
    names = ("Holden Caprice", "S\u00e3o Paulo")
    tested = [Record(subject=name, knowledge_edit=edit) for name in names]
    data: Any = SimpleNamespace(records=lambda split: tested, source=source(tested))
    model: Any = None
    editor: Any = torch.nn.Module()
    if is_test:
        training.load_trained_editor("a.ckpt", editor, model, data)
    else:
        with pytest.raises(DataError, match="was trained on 1 of 2 subjects"):
            training.load_trained_editor("a.ckpt", editor, model, data)


def pictured(subject: str, folder: str, relation: str = "capital") -> Record:
    edit = KnowledgeEdit(image_question="What is shown?", answer_new="Ida")
    return Record(
        subject=subject, relation=relation, knowledge_edit=edit, image=f"{folder}/a.jpg",
        image_rephrase=f"{folder}/b.jpg",
    )  # fmt: skip


LEARNT = [pictured("Rome", "m.01"), pictured("Oslo", "m.02"), pictured("Oslo", "m.02", "mayor")]
TESTED = [pictured("ROME", "m.01"), pictured("Roma", "m.01"), pictured("Oslo", "m.02", "river")]


@pytest.fixture
def ckpt(monkeypatch: pytest.MonkeyPatch) -> str:
    """A checkpoint that was trained on `LEARNT`."""
    traces = Traces.of(LEARNT, entity_folders=True)
    content = {SUBJECTS: list(traces.subjects.values()), TRACES: traces.stored()}
    monkeypatch.setattr(learnt, "read_checkpoint", lambda path: content)
    return "a.ckpt"


def test_what_a_checkpoint_was_trained_on_is_refused_by_subject_fact_and_folder(ckpt: str) -> None:
    """Another spelling, another name of a pictured entity, and another fact of a subject."""
    said = (
        r"ckpt=a\.ckpt was trained on 2 of 3 subjects \(ROME \(there 'Rome'\); Oslo\), "
        r"1 of 3 facts \(ROME: its capital\), 2 of 2 picture folders \(m\.01; m\.02\) of the test"
    )
    with pytest.raises(DataError, match=said):
        learnt.check_new(ckpt, TESTED, source(TESTED, entity_folders=True))
    learnt.check_new(ckpt, TESTED[1:2], source(TESTED[1:2]))  # whose folders say nothing
    with pytest.raises(DataError, match=r"was trained on 1 of 1 picture folders \(m\.01\)"):
        learnt.check_new(ckpt, TESTED[1:2], source(TESTED[1:2], entity_folders=True))


@pytest.mark.parametrize("entity_folders", [True, False])
def test_a_checkpoint_keeps_what_the_served_edits_are_known_by(entity_folders: bool) -> None:
    learnt_from = source(TESTED, entity_folders=entity_folders)
    data: Any = SimpleNamespace(
        records=lambda split: LEARNT[:1] if split == "val" else LEARNT[1:], source=learnt_from
    )
    stored = training._traces(data).stored()
    assert stored == Traces.of(LEARNT, entity_folders=entity_folders).stored()
    assert stored["folders"] == (["m.01", "m.02"] if entity_folders else None)
    assert len(stored["facts"]) == 3


def test_allowed_it_is_told_and_counted(ckpt: str, caplog: pytest.LogCaptureFixture) -> None:
    allowed = source(TESTED, entity_folders=True, allow_overlap=True)
    learnt.check_new(ckpt, TESTED, allowed)
    assert "a.ckpt was trained on 2 of 3 subjects" in caplog.text
    of = learnt.learnt_by(ckpt, allowed, shows_records=False)
    assert learnt.overlap_counts(of, TESTED[:2], allowed) == {
        "with": "checkpoint", "is_read": True, "edits": 2, "of": 2,
        "subject": {"n": 1, "of": 2, "first": ["ROME (there 'Rome')"]},
        "fact": {"n": 1, "of": 2, "first": ["ROME: its capital"]},
        "folder": {"n": 1, "of": 1, "first": ["m.01"]},
    }  # fmt: skip


def test_splits_that_may_overlap_are_told(caplog: pytest.LogCaptureFixture) -> None:
    both = {"test": TESTED, "train": LEARNT[:1], "val": [pictured("rome", "m.05", "mayor")]}
    learnt.log_overlaps(replace(source(TESTED, allow_overlap=True), splits=both))
    told = "\n".join(caplog.messages)
    of_test = "the test split of data=vlkeb shares 1 of 3 subjects"
    assert (
        f"{of_test} (ROME (there 'Rome')), 1 of 3 facts (ROME: its capital) with the train" in told
    )
    assert f"{of_test} (ROME (there 'rome')) with the val split" in told
    assert "the val split of data=vlkeb shares 1 of 1 subjects (rome (there 'Rome')) with" in told
    assert len(caplog.messages) == 3


def test_without_a_checkpoint_the_training_records_of_the_data_count() -> None:
    data = source(TESTED, allow_overlap=True)
    assert learnt.learnt_by(None, data, shows_records=True) is None
    assert learnt.overlap_counts(None, TESTED, data) is None
    both = replace(data, splits={"test": TESTED, "train": LEARNT[:1], "val": LEARNT[1:]})
    for shows_records in (True, False):
        of = learnt.learnt_by(None, both, shows_records=shows_records)
        counts = learnt.overlap_counts(of, TESTED, both)
        assert (counts["with"], counts["is_read"]) == ("data", shows_records)
        assert (counts["edits"], counts["subject"]["n"], counts["fact"]["n"]) == (2, 2, 1)
        assert "folder" not in counts  # the source does not keep them by entity


def test_a_checkpoint_says_whose_records_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    terms = {"source": "hub", "origin": "not stated", "licence": "CC-BY-4.0"}
    content: dict[str, object] = {TERMS: terms}
    monkeypatch.setattr(learnt, "read_checkpoint", lambda path: content)
    monkeypatch.setattr(learnt, "stored_config", lambda path: {"data": {"name": "mcmke"}})
    assert learnt.terms_of_training("a.ckpt") == terms
    del content[TERMS]  # an earlier one: by its settings
    earlier = learnt.terms_of_training("a.ckpt")
    assert earlier is not None
    assert (earlier["source"], earlier["licence"]) == ("mcmke", "not stated")
    monkeypatch.setattr(learnt, "stored_config", lambda path: {})
    assert learnt.terms_of_training("a.ckpt") is None
