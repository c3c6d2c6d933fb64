"""Subjects that an editor was trained on are no test, however they are spelled there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from datamodules.records import KnowledgeEdit, Record
from editors.checkpoint import SUBJECTS
from errors import DataError
from runner import training


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
    monkeypatch.setattr(training, "read_checkpoint", lambda path: {SUBJECTS: [trained, "Else"]})
    monkeypatch.setattr(training.identity, "load_editor", lambda *arguments: None)
    edit = KnowledgeEdit(question="Who?", answer_new="Ida")
    names = ("Holden Caprice", "S\u00e3o Paulo")
    tested = [Record(subject=name, knowledge_edit=edit) for name in names]
    data: Any = SimpleNamespace(records=lambda split: tested)
    model: Any = None
    editor: Any = torch.nn.Module()
    if is_test:
        training.load_trained_editor("a.ckpt", editor, model, data)
    else:
        with pytest.raises(DataError, match="was trained on 1 of the 2 subjects"):
            training.load_trained_editor("a.ckpt", editor, model, data)
