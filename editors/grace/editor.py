"""GRACE (Hartvigsen et al., Aging with GRACE, NeurIPS 2023): a codebook beside one layer.

    h = V_i   where |x - K_i| <= epsilon_i,   i the nearest key        h = W x   elsewhere

x is what enters a linear map at the last token of a prompt, before its answer. No weight changes.
Every row that teaches an edit is an entry with a value of its own, so an edit that is taught in
text and by a picture has two. Under single editing, B edits of a batch are B codebooks, and a row
sees its own edit's. Edits that follow on each other are one codebook, built in their order
(`editors.grace.codebook`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from editors.base import EditorInputs, Lasting
from editors.grace.codebook import Codebook, Entries
from editors.grace.config import GraceOptions
from editors.grace.values import Replacing, fit_values, replaced_tokens
from editors.teaching import Teaching
from editors.turn import Turn
from metrics.precision import single
from models.budget import logit_bytes, tokens_at_once
from models.deltas import Site, linear_shape
from models.editable import EditableModel, PrefixState
from models.row_keys import row_keys
from models.rows import Answers, EditBatch, Rows


class Grace:
    """Finds the key and the value of every edit by itself."""

    name = "grace"
    asks_unedited = True

    def __init__(self, options: GraceOptions) -> None:
        self.options = options
        self.site = Site(options.layer, options.matrix)

    def first_layer(self, model: EditableModel) -> int:
        """The layer of the codebook."""
        return self.site.layer

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """The logits of answers with and without values."""
        return 2 * logit_bytes(model, int(batch.rows.answer_mask.sum()))

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> GraceEdit:
        """One codebook per edit.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        entries = self.entries(model, batch, state)
        owners = batch.rows.edit_index[batch.edit_rows].tolist()
        taught = [[n for n, one in enumerate(owners) if one == e] for e in range(len(batch))]
        books = [self.recall(entries.select(numbers)).codebook for numbers in taught]
        owner = [edit for edit, book in enumerate(books) for _ in range(len(book))]
        device = batch.edit_rows.device
        return GraceEdit(
            self, entries, Codebook.side_by_side(books), torch.tensor(owner, device=device)
        )

    def recall(self, entries: Entries, earlier: GraceEdit | None = None) -> GraceEdit:
        """One codebook, which every row may see: edits in their order, behind earlier ones."""
        known = None if earlier is None else earlier.codebook
        codebook = Codebook.of(entries, epsilon_init=self.options.epsilon_init, earlier=known)
        every = entries if earlier is None else Entries.joined([earlier.entries, entries])
        return GraceEdit(self, every, codebook, None)

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> GraceEdit:
        """One codebook of all edits of a turn, whose values are found side by side.

        No entry says anything about the value of another: each is fitted at its own key, where it
        is the nearest.
        """
        del earlier
        parts = [self.entries(model, batch, state) for batch, state in turn]
        return self.recall(Entries.joined(parts))

    def entries(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> Entries:
        """What each row that teaches an edit puts into a codebook: (K,) entries.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        rows, options = batch.rows.select(batch.edit_rows), self.options
        every = torch.arange(len(rows), device=rows.input_ids.device)
        teaching = replace(Teaching.of(batch, state), edit=every, n_edits=len(rows))
        at = teaching.at
        keys, outputs = model.read(teaching.state, self.site, every, at.prompt_end)
        tokens = replaced_tokens(rows, options.replace)
        start = outputs.to(single(outputs.dtype))
        if options.start == "random":
            start = self._drawn(model).to(start).expand_as(start)
        values = fit_values(model, teaching, self.site, tokens, start, options)
        labels: list[list[int]] = [[] for _ in range(len(rows))]
        for row, token in zip(at.row.tolist(), at.target.tolist(), strict=True):
            labels[row].append(token)
        prompts = replace(rows, attention_mask=rows.attention_mask & ~rows.answer_mask)
        return Entries(keys, values, tuple(map(tuple, labels)), tuple(row_keys(prompts)))

    def _drawn(self, model: EditableModel) -> Tensor:
        """What all values start from, uniform on [0, 1): (d_out,)."""
        draw = torch.Generator().manual_seed(self.options.seed)
        return torch.rand(linear_shape(model.linear(self.site))[1], generator=draw)


@dataclass(frozen=True)
class GraceEdit:
    """Edits in codebooks.

    Attributes:
        entries: the edits as they were taught, in their order.
        codebook: what they came to.
        owner: (M,) the edit whose rows see an entry of `codebook`, from 0; None: every row sees
            all.
    """

    editor: Grace
    entries: Entries
    codebook: Codebook
    owner: Tensor | None

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens; of rows that lie within no radius, as the base model does."""
        logits, entry = model.unedited(state, at), self.retrieved(model, rows, state)
        inside = at.row.unique()
        inside = inside[entry[inside] >= 0]
        if not len(inside):
            return logits
        tokens = replaced_tokens(rows, self.editor.options.replace)
        values = self.codebook.entries.values[entry]
        logits = logits.clone()  # those of the unedited model may be asked for again
        # Each stands in a sequence of its own, so that there are as many at once as have room.
        for part in inside.split(max(1, tokens_at_once(model) // rows.input_ids.shape[1])):
            alone, at_part = state.select(part, apart=True), at.select(part)
            replacing = Replacing(model, alone, self.editor.site, at_part, tokens[part])
            edited = replacing.answers(values[part])
            logits.index_copy_(0, at.numbers(part), edited.to(logits))
        return logits

    def retrieved(self, model: EditableModel, rows: Rows, state: PrefixState) -> Tensor:
        """The entry whose value each row gets: (R,); -1 where it gets none."""
        every = torch.arange(len(rows), device=rows.input_ids.device)
        queries, _ = model.read(state, self.editor.site, every, rows.answers().prompt_end)
        allowed = None if self.owner is None else rows.edit_index[:, None] == self.owner[None]
        return self.codebook.lookup(queries, allowed)

    def scope_probabilities(self, model: EditableModel, rows: Rows, state: PrefixState) -> Tensor:
        """Whether the codebook answers a row: (R,), 1 or 0."""
        return (self.retrieved(model, rows, state) >= 0).float()

    def after(self, earlier: GraceEdit | None) -> GraceEdit:
        """One codebook of all edits, in their order."""
        return self.editor.recall(self.entries, earlier)

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """Nothing: the layers below give a key, and at its own key no other entry is nearer."""
        return nullcontext()


def build(options: GraceOptions, model: EditableModel, inputs: EditorInputs) -> Grace:
    """The editor; its options are all that it needs."""
    return Grace(options)
