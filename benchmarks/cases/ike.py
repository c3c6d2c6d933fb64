"""IKE: the answers of a record behind its demonstrations."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from benchmarks.cases.case import Evaluation
from benchmarks.floor import Floor, Tokens, pictures
from benchmarks.reference.ike import ike_answers
from benchmarks.reference.passes import Row
from editors.base import EditorInputs
from editors.ike.config import IkeOptions
from editors.ike.editor import Ike, IkeEdit, build
from models.rows import EditBatch


class IkeEvaluation(Evaluation):
    """A record of the multimodal scenario under IKE with 32 demonstrations."""

    name = "ike"
    brief = "IKE, 32 demonstrations and answers of a multimodal record"

    @cached_property
    def editor(self) -> Ike:
        records = list(self.setting.source.records("test"))
        k = min(32, len(records) - self.setting.batch_size)
        options = self.setting.evaluation("ike", f"editor.k={k}").editor
        assert isinstance(options, IkeOptions)
        shown = records[self.setting.batch_size :]
        return build(options, self.model, EditorInputs(self.setting.encoder, shown))

    def edited(self, rows: list[Row]) -> Tensor:
        edit = self._edit(self.single)
        limit = self.model.max_positions
        return ike_answers(self.reference, self.editor, edit, self.single, limit)

    def floor(self) -> Floor:
        batch, shape = self.batch, self.shape
        every, edit = self.tokens(self.every), self._edit(batch)
        n_answers = len(batch.rows.answers().row)
        before = [
            "".join(demonstrations) + statement
            for demonstrations, statement in zip(edit.demonstrations, edit.statements, strict=True)
        ]
        edits = batch.rows.edit_index.tolist()
        longer = self.setting.encoder.rows(
            [
                self.editor.encode(text, before[number])
                for text, number in zip(batch.rows.texts, edits, strict=True)
            ],
            batch.rows.texts,
            edit_index=edits,
            image_index=batch.rows.image_index.tolist(),
        )
        return Floor(
            {
                "vision": pictures(batch.rows) * shape.picture,
                "prefix": shape.passes(every, shape.layers - 1),
                "unedited": shape.upper(every, n_answers, 1),
                "edited": shape.upper(Tokens.of_rows(longer), n_answers, shape.layers),
                "head": 2 * shape.head(n_answers),
            },
            edits=len(batch),
        )

    def _edit(self, batch: EditBatch) -> IkeEdit:
        with torch.no_grad():
            own = batch.rows.select(batch.edit_rows)
            state = self.model.prefix(own, self.editor.first_layer(self.model))
        return self.editor.edit(self.model, batch, state)
