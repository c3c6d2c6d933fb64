"""Which rows SERAC's counterfactual model is asked, and how many at once."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from editors.serac.editor import ASKED, Serac
from editors.serac.similarity import mix_soft
from models.budget import PASS_SHARE, MemoryBudget
from models.editable import EditableModel
from tests.serac_cases import looked, made, picture_model, stirred, worded_batch
from tests.unit.editors.test_serac import EDITS, answers_of, base_answers


def far_scope(model: EditableModel, **changed: object) -> Serac:
    """Distances grow until a part of the questions is out of any scope, as of real encoders."""
    editor = stirred(model, **changed)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, _ = made(model, editor, batch)
    middle = -edit.retrieved(batch.rows)[0].median()
    with torch.no_grad():
        editor.scope.log_scale.add_((33.0 / middle).log())  # log s = -33.3 is where it ends
    return editor


def watched(editor: Serac, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each pass of the counterfactual model."""
    passes: list[int] = []
    forward = editor.counterfactual.forward

    def count(encoder: object, entries: list[str], *rest: object) -> Tensor:
        passes.append(len(entries))
        return forward(encoder, entries, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(editor.counterfactual, "forward", count)
    return passes


def test_questions_far_outside_the_scope_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = far_scope(model)
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    at, rows = batch.rows.answers(), batch.rows
    passes = watched(editor, monkeypatch)
    with torch.no_grad():
        found = edit.answer(model, rows, state, at)
    log_scope, entry = edit.retrieved(rows)
    asked = log_scope >= math.log(2.0**-48)
    assert passes == [int(asked.sum())]
    assert 0 < passes[0] < len(rows)
    with torch.no_grad():  # the published mixture, of every row
        whole = mix_soft(
            base_answers(model, batch), edit.counterfactual(rows, at, entry), log_scope[at.row]
        )
    torch.testing.assert_close(found, whole, rtol=1e-6, atol=1e-6)
    assert torch.equal(found.topk(10).indices, whole.topk(10).indices)
    shares = [
        float(asked[rows.edit_index == number].float().mean()) for number in range(len(EDITS))
    ]
    assert edit.report() == {ASKED: pytest.approx(shares)}


def test_every_question_is_asked_while_the_scope_learns(monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = far_scope(model).train()
    batch = looked(model, worded_batch(EDITS, pictures=True))
    edit, state = made(model, editor, batch)
    passes = watched(editor, monkeypatch)
    edit.answer(model, batch.rows, state, batch.rows.answers())
    assert passes == [len(batch.rows)]


@pytest.mark.parametrize("combine", ["soft", "hard"])
def test_little_memory_changes_nothing(combine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = picture_model()
    editor = stirred(model, combine=combine, scope={"threshold": 1e-6})
    batch = looked(model, worded_batch(EDITS, pictures=True))
    whole = answers_of(model, editor, batch)
    passes = watched(editor, monkeypatch)
    each = editor.counterfactual.row_bytes(batch.rows)
    monkeypatch.setattr(model, "budget", MemoryBudget(math.ceil(3 * each / PASS_SHARE)))
    torch.testing.assert_close(answers_of(model, editor, batch), whole, rtol=1e-5, atol=1e-5)
    assert max(passes) == 3
    assert len(passes) > 2
