"""SERAC as published: both models asked about every question, one after the other, everywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.reference.losses import Answer, outer_loss
from benchmarks.reference.passes import Whole, alone, row_of
from editors.objective import Objective
from editors.reread import reread
from editors.serac.editor import Serac
from editors.serac.memory import Entry
from editors.serac.similarity import mix_soft
from models.editable import EditableModel
from models.rows import Answers, EditBatch, Rows, pooled_pictures


@dataclass(frozen=True)
class SeracAlone:
    """A memory of one entry, asked about one row at a time.

    Attributes:
        entry: the edit as "question answer".
        picture: (d,) pooled features of the picture that it shows, or None.
    """

    whole: Whole
    model: EditableModel
    editor: Serac
    entry: str
    picture: Tensor | None

    @classmethod
    def of(cls, model: EditableModel, editor: Serac, batch: EditBatch, edit: int) -> SeracAlone:
        """The memory of an edit of a batch."""
        rows = alone(batch.rows, int(batch.edit_rows[edit]))
        with torch.no_grad():
            pooled = pooled_pictures(model.encode_pictures(rows))
        (text,) = rows.texts
        entry = Entry(text.question, text.answer).text
        return cls(Whole(model), model, editor, entry, None if pooled is None else pooled[0])

    def answer(self, one: Rows) -> tuple[Tensor, Tensor]:
        """Logits of the base model and of the mixture at the answer tokens of a row: (n, V)."""
        with torch.no_grad():
            one = self.model.encode_pictures(one)  # the tower once for both models
            logits = self.whole(inputs_embeds=self.model.embed(one))[0]
        at = one.answers()
        base = logits[at.position].float()
        return base, mix_soft(base, self._counterfactual(one, at), self._scope(one)[at.row])

    def _scope(self, one: Rows) -> Tensor:
        scope = self.editor.scope
        queries = scope.embed([one.texts[0].question], pooled_pictures(one))
        entry = scope.embed([self.entry], None if self.picture is None else self.picture[None])
        return scope.compare(queries, entry)[:, 0]

    def _counterfactual(self, one: Rows, at: Answers) -> Tensor:
        network = self.editor.counterfactual
        encoded = network.encode(self.editor.encoder, self.entry, one.texts[0])
        longer, moved = reread(self.editor.encoder, [encoded], one, at)
        table: nn.Module = network.lm.get_input_embeddings()
        embedded = table(longer.input_ids.masked_fill(longer.image_slots, 0))
        if longer.features is not None:
            shown = network.pictures(longer.features.to(embedded.dtype))
            embedded = embedded.masked_scatter(longer.image_slots[..., None], shown)
        logits: Tensor = network.lm(inputs_embeds=embedded, use_cache=False).logits[0]
        missing = network.vocabulary - logits.shape[-1]
        if missing > 0:
            lowest = torch.finfo(logits.dtype).min
            logits = nn.functional.pad(logits, (0, missing), value=lowest)
        return logits[moved.position, : network.vocabulary]


def serac_loss(
    model: EditableModel, editor: Serac, batch: EditBatch, objective: Objective
) -> Tensor:
    """The outer loss on the mixture."""
    rows = [alone(batch.rows, number) for number in range(len(batch.rows))]

    def edited(edit: int) -> Answer:
        memory = SeracAlone.of(model, editor, batch, edit)
        return lambda number: memory.answer(rows[number])

    return outer_loss(batch, [row_of(row) for row in rows], objective, edited)
