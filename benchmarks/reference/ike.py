"""IKE as published: the demonstrations are read again before every question."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.reference.passes import Reference, Row, alone
from editors.ike.editor import Ike, IkeEdit
from editors.reread import reread
from models.rows import EditBatch, RowText


def ike_answers(
    reference: Reference, editor: Ike, edit: IkeEdit, batch: EditBatch, limit: int
) -> Tensor:
    """The likeliest token at every answer token of one edit's rows, (N,).

    Args:
        reference: asks.
        editor: how a text stands before a question.
        edit: one edit's demonstrations; as many are shown as fit before all of its questions.
        batch: the same edit.
        limit: tokens that the model reads at once.
    """
    demonstrations, statement = list(edit.demonstrations[0]), edit.statements[0]

    def before() -> str:
        return "".join(demonstrations) + statement

    def longest(texts: tuple[RowText, ...]) -> int:
        return max(len(editor.encode(text, before()).ids) for text in texts)

    while demonstrations and longest(batch.rows.texts) > limit:
        del demonstrations[0]
    answers = []
    for number in range(len(batch.rows)):
        one = alone(batch.rows, number)
        encoded = editor.encode(one.texts[0], before())
        longer, moved = reread(editor.encoder, [encoded], one, one.answers())
        row = Row(longer.input_ids, longer.pixel_values, moved.position, moved.target)
        answers.append(reference.answers([row]))
    return torch.cat(answers)
