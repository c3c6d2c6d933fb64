"""Whatever the editor: taught with the end token, an edit makes it likelier behind the target."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from editors.base import Editor
from models.llava import Llava
from models.rows import EditBatch
from tests.all_editors import EDITORS
from tests.builders import inputs
from tests.serac_cases import picture_model, worded_batch

# They descend on no target; a memory of texts; a loss at the prompt's last token alone.
OTHERS = {"none", "ike", "serac", "serac_hard", "ft_l"}
STEPS = 10


@pytest.fixture(scope="module")
def model() -> Llava:
    return picture_model()


def batch_of() -> EditBatch:
    """Two edits, each of a row that asks for the target and one that asks for its end too."""
    encoder, of_edits = inputs().encoder, worded_batch([1, 2])
    plain = [of_edits.rows.texts[row] for row in of_edits.edit_rows.tolist()]
    texts = [*plain, *(text._replace(ended=True) for text in plain)]
    encoded = [encoder.encode(**text.tokens) for text in texts]
    rows = encoder.rows(encoded, texts, edit_index=[0, 1, 0, 1])
    return EditBatch(rows, torch.tensor([0, 1]), {}, (1, 2), of_edits.subjects)


def end_log_p(model: Llava, editor: Editor, batch: EditBatch, taught: Tensor) -> Tensor:
    """The log probability of the end token behind the target: (2,)."""
    batch = EditBatch(batch.rows, taught, {}, batch.edit_ids, batch.subjects)
    state, at = model.prefix(batch.rows, editor.first_layer(model)), batch.rows.answers()
    edit = editor.edit(model, batch, state)
    with torch.no_grad():
        log_p = edit.answer(model, batch.rows, state, at).log_softmax(-1)
    end = inputs().encoder.end_of_target()
    return log_p[(at.target == end) & (at.row >= 2), end]


@pytest.mark.parametrize("name", [name for name in EDITORS if name not in OTHERS])
def test_the_end_token_is_likelier_where_it_was_taught(name: str, model: Llava) -> None:
    batch, editor = batch_of(), EDITORS[name](model, STEPS)
    plain, ended = (
        end_log_p(model, editor, batch, torch.tensor(taught)) for taught in ([0, 1], [2, 3])
    )
    assert ended.mean() > plain.mean(), (plain, ended)
