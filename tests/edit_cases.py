"""Edits of records by the public interface, and checkpoints of editors that were never trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from configs.check import load_config
from datamodules.prompts import Prompt
from datamodules.records import Record
from editing.edit import FactEdit, batch_of
from editing.editor import FactEditor
from editing.model import OpenedModel
from editors.base import Editor, EditorInputs
from editors.checkpoint import CONFIG, stamp
from editors.registry import build_editor


def teach(editor: FactEditor, record: Record) -> FactEdit:
    """The edit of a record, in text."""
    fact = record.knowledge_edit
    return editor.edit(fact.question, fact.answer_new, subject=record.subject)


def untrained_checkpoint(name: str, model: OpenedModel, record: Record, path: Path) -> Path:
    """A checkpoint of MEND or MALMEN that saw one edit, or of SERAC that looks at pictures."""
    config: Any = load_config("train", [f"editor={name}", "experiment=demo"])
    torch.manual_seed(4)
    editor: Any = build_editor(config.editor, model.editable, EditorInputs(model.encoder))
    if name in ("mend", "malmen", "rledit"):
        _look_at(editor, model, record)
    else:
        with torch.no_grad():
            for linear in (editor.scope.pictures, editor.counterfactual.pictures):
                linear.weight.normal_(std=0.5)
    return write_checkpoint(editor, config.editor.model_dump(), config.plain(), model, path)


def write_checkpoint(
    editor: nn.Module,
    options: dict[str, Any],
    config: dict[str, Any],
    model: OpenedModel,
    path: Path,
) -> Path:
    """The editor as train.py stores it."""
    state: dict[str, Tensor] = {f"editor.{name}": v for name, v in editor.state_dict().items()}
    content: dict[str, Any] = {"state_dict": state, CONFIG: config}
    stamp(content, options, model.editable)
    torch.save(content, path)
    return path


def _look_at(editor: Editor, model: OpenedModel, record: Record) -> None:
    """Lets the editor take the statistics of an edit's gradients, as in training."""
    fact, table = record.knowledge_edit, model.rows()
    row = table.add(Prompt(fact.question, fact.answer_new, None), 0)
    batch = batch_of(model, table, [row], subject=record.subject)
    assert isinstance(editor, nn.Module)
    editor.train()
    editor.edit(model.editable, batch, model.editable.prefix(batch.rows, 0))
    editor.eval()
