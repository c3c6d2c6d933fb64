"""SERAC (Mitchell et al., Memory-Based Model Editing at Scale, ICML 2022): "rep" in its code.

The base model is never changed. An edit goes into a memory; a question that the scope classifier
finds to be about an edit is answered by the counterfactual model, which reads that edit, and any
other by the base model:

    soft   log((1 - s) p_base + s p_counterfactual)        hard   counterfactual where s > 0.5

Under single editing, B edits of a batch are B memories of one entry; a row sees its own edit's. An
edit that is taught in text and by a picture is two entries, and a row reads the nearer one.
Edits that follow on each other are one memory, and a row sees all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from datamodules.prompt_encoder import PromptEncoder
from datamodules.row_length import may_exceed
from editors.base import EditorInputs, Lasting
from editors.serac.config import SeracOptions
from editors.serac.counterfactual import Counterfactual, build_counterfactual
from editors.serac.memory import Entry, Memory
from editors.serac.scope import Scope, build_scope
from editors.serac.similarity import (
    fires,
    is_negligible,
    mix_hard,
    mix_negligible,
    mix_soft,
    retrieve,
)
from editors.turn import Turn
from models.budget import MemoryBudget, logit_bytes
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch, Rows, RowText, pooled_pictures

ASKED = "asked_counterfactual"  # name in a result's `editor_report`


class Serac(nn.Module):
    """The scope classifier, the counterfactual model, and how their answers are combined.

    Args:
        options: `combine` and the threshold of a hard decision; training with the objective
            `mixture` is always soft.

    Attributes:
        untrained: names of the weights that are fixed, and made again from the base model and the
            options; `state_dict` has the others alone.
    """

    name = "serac"
    asks_unedited = True

    def __init__(
        self,
        options: SeracOptions,
        encoder: PromptEncoder,
        scope: Scope,
        counterfactual: Counterfactual,
    ) -> None:
        super().__init__()
        self.options, self.encoder, self.threshold = options, encoder, options.scope.threshold
        self.scope, self.counterfactual = scope, counterfactual
        # The base's embeddings among them: they belong to the base, not into a checkpoint.
        self.untrained = frozenset(
            name
            for name, parameter in self.named_parameters(remove_duplicate=False)
            if not parameter.requires_grad
        )
        self.register_state_dict_post_hook(_leave_out_untrained)
        self.register_load_state_dict_post_hook(_expect_no_untrained)
        self.train(False)

    def train(self, mode: bool = True) -> Serac:
        """Dropout stays off in training too, as published (dropout 0)."""
        super().train(mode)
        self.scope.encoder.eval()
        self.counterfactual.lm.eval()
        return self

    @property
    def combine_hard(self) -> bool:
        """Whether one of the two models answers alone; in training both always do."""
        return self.options.combine == "hard" and not self.training

    def check_lengths(self, edit: Sequence[RowText], asked: Sequence[RowText]) -> None:
        """Refuses an edit some of whose questions the counterfactual model could not read.

        Raises:
            DataError: naming the question, its tokens and that model's.
        """
        reader, limit = self.counterfactual, self.counterfactual.max_positions
        for entry in [Entry(text.question, text.answer).text for text in edit]:
            for text in asked:
                if may_exceed(self.encoder, limit, entry, text.question, text.answer):
                    reader.encode(self.encoder, entry, text)

    def first_layer(self, model: EditableModel) -> int:
        """The last layer: no layer is edited, so as much as possible is shared."""
        return model.n_layers - 1

    def held_bytes(self, model: EditableModel, batch: EditBatch) -> int:
        """One layer of the counterfactual model over what it reads at once, and logits."""
        layer = self.counterfactual.held_bytes(model.budget, batch.rows)
        return layer + 2 * logit_bytes(model, int(batch.rows.answer_mask.sum()))

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> SeracEdit:
        """One memory entry per row that teaches an edit, seen by that edit's rows alone."""
        rows = batch.edit_rows.tolist()
        pooled = pooled_pictures(batch.rows)
        pictured = (batch.rows.image_index[batch.edit_rows] >= 0).tolist()
        entries = [
            Entry(
                batch.rows.texts[row].question,
                batch.rows.texts[row].answer,
                pooled[row] if pooled is not None and has_picture else None,
            )
            for row, has_picture in zip(rows, pictured, strict=True)
        ]
        return SeracEdit(self, Memory(entries), batch.rows.edit_index[batch.edit_rows])

    def edit_together(self, model: EditableModel, turn: Turn, earlier: Lasting | None) -> SeracEdit:
        """One memory of all edits, in their order."""
        update = self.recall(Memory())
        for batch, state in turn:
            update = self.edit(model, batch, state).after(update)
        return update

    def recall(self, memory: Memory) -> SeracEdit:
        """Edits of a memory that every row may see."""
        return SeracEdit(self, memory, None)


@dataclass(frozen=True)
class SeracEdit:
    """Edits in a memory.

    Attributes:
        memory: M entries.
        owner: (M,) the edit whose rows may see an entry, from 0; None: every row sees all.
    """

    editor: Serac
    memory: Memory
    owner: Tensor | None
    _asked: list[tuple[Tensor, Tensor]] = field(default_factory=list, init=False, compare=False)

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens; with an empty memory these are the base model's logits."""
        base = model.unedited(state, at)
        if not len(self.memory):
            return base
        in_scope, log_scope, entry = self._in_scope(rows)
        self._count(rows, in_scope)
        scoped = in_scope.nonzero().squeeze(1)
        if not len(scoped):
            return self._outside(base, at, in_scope, log_scope)
        tokens, asked, read = at.numbers(scoped), rows.select(scoped), at.select(scoped)
        has_answer = self.editor.counterfactual.reads(asked, read)
        tokens, read = tokens[has_answer], read.where(has_answer)
        mixed = base
        if len(tokens) < len(base):
            mixed = self._outside(base, at, in_scope, log_scope)
        if not len(tokens):
            return mixed
        counterfactual = self.counterfactual(asked, read, entry[scoped], model.budget)
        scope = log_scope[at.row[tokens]]
        if self.editor.combine_hard:
            inside = mix_hard(base[tokens], counterfactual, scope, self.editor.threshold)
        else:
            inside = mix_soft(base[tokens], counterfactual, scope)
        return mixed.index_copy(0, tokens, inside.to(base.dtype))

    def report(self) -> dict[str, list[float]]:
        """Of each edit the share of rows that the counterfactual model was asked; {} of a memory.

        The others lie so far outside the scope that it has no say in their answers.
        """
        if self.owner is None or not self._asked:
            return {}
        n_edits = int(self.owner.max()) + 1
        edits, asked = (torch.cat(values) for values in zip(*self._asked, strict=True))
        n_rows = edits.bincount(minlength=n_edits).clamp(min=1)
        share = edits[asked].bincount(minlength=n_edits) / n_rows
        return {ASKED: share.tolist()}

    def after(self, earlier: SeracEdit | None) -> SeracEdit:
        """One memory of all edits, which every row may see."""
        memory = Memory() if earlier is None else earlier.memory
        return self.editor.recall(memory.add(*self.memory.entries))

    def in_place(self, model: EditableModel) -> AbstractContextManager[None]:
        """Nothing: the base model is never edited."""
        return nullcontext()

    def room(self, model: EditableModel, rows: Rows) -> list[int]:
        """Tokens by which each row may grow: in either model, where the counterfactual is asked."""
        base = [self.editor.encoder.encode(**text.tokens) for text in rows.texts]
        room = [model.max_positions - len(row.ids) for row in base]
        if not len(self.memory):
            return room
        with torch.no_grad():
            in_scope, _, entry = self._in_scope(rows)
        counterfactual = self.editor.counterfactual
        for row in in_scope.nonzero().squeeze(1).tolist():
            text = self.memory.entries[int(entry[row])].text
            read = counterfactual.encode(self.editor.encoder, text, rows.texts[row])
            room[row] = min(room[row], counterfactual.max_positions - len(read.ids))
        return room

    def _in_scope(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """Which rows the counterfactual model answers too: (R,); and what `retrieved` gives."""
        log_scope, entry = self.retrieved(rows)
        if self.editor.combine_hard:
            return fires(log_scope, self.editor.threshold), log_scope, entry
        if self.editor.training:  # a gradient is to reach every scope
            return log_scope > -torch.inf, log_scope, entry
        return ~is_negligible(log_scope), log_scope, entry

    def _outside(self, base: Tensor, at: Answers, in_scope: Tensor, log_scope: Tensor) -> Tensor:
        """Answers without a counterfactual, log probabilities where others are: (N, V)."""
        if self.editor.combine_hard:
            return base
        negligible = (~in_scope & (log_scope > -torch.inf))[at.row]
        tokens = negligible.nonzero().squeeze(1)
        if not len(tokens):
            return base.log_softmax(-1) if bool(in_scope.any()) else base
        return base.log_softmax(-1).index_copy(0, tokens, mix_negligible(base[tokens]))

    def _count(self, rows: Rows, asked: Tensor) -> None:
        self._asked.append((rows.edit_index, asked))

    def retrieved(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Log scope probability of each row and the entry it is of: (R,), (R,)."""
        questions = [text.question for text in rows.texts]
        allowed = None
        if self.owner is not None:
            allowed = rows.edit_index[:, None] == self.owner[None]  # (R, M)
        scope = self.editor.scope
        if scope.options.mode == "cross_attention":
            log_p = self._read_together(questions, allowed)
        else:
            queries = scope.embed(questions, pooled_pictures(rows))
            log_p = scope.compare(queries, self.memory.embedded(scope))
        return retrieve(log_p, allowed)

    def counterfactual(
        self, rows: Rows, at: Answers, entry: Tensor, budget: MemoryBudget | None = None
    ) -> Tensor:
        """The counterfactual model's logits of rows that are told an entry each: (N, V).

        With a budget no more is read at once than has room in it.
        """
        texts = [self.memory.entries[number].text for number in entry.tolist()]
        editor = self.editor
        logits: Tensor = editor.counterfactual(editor.encoder, texts, rows, at, budget)
        return logits

    def scope_probabilities(self, model: EditableModel, rows: Rows, state: PrefixState) -> Tensor:
        """How sure the classifier is that a row is about an edit: (R,)."""
        if not len(self.memory):
            return torch.zeros(len(rows), device=rows.input_ids.device)
        return self.retrieved(rows)[0].exp()

    def _read_together(self, questions: Sequence[str], allowed: Tensor | None) -> Tensor:
        """Cross-attention over the pairs that are allowed: (R, M), -inf elsewhere."""
        shape = (len(questions), len(self.memory))
        device = next(self.editor.scope.parameters()).device
        pairs = torch.ones(shape, dtype=torch.bool, device=device) if allowed is None else allowed
        query, entry = pairs.nonzero(as_tuple=True)
        read = self.editor.scope.read_pairs(
            [questions[number] for number in query.tolist()],
            [self.memory.entries[number].text for number in entry.tolist()],
        )
        nothing = read.new_full(shape, -torch.inf)
        return nothing.index_put((query, entry), read)


def build(options: SeracOptions, model: EditableModel, inputs: EditorInputs) -> Serac:
    """The untrained editor that the options describe.

    Raises:
        ModelError: an encoder or the counterfactual model is on no disk, or does not fit.
    """
    tokenizer = inputs.encoder.tokenizer
    return Serac(
        options,
        inputs.encoder,
        build_scope(options.scope, model, tokenizer),
        build_counterfactual(options.counterfactual, model, tokenizer),
    ).to(model.device)


def _leave_out_untrained(
    editor: Serac, state: dict[str, Tensor], prefix: str, _metadata: object
) -> None:
    for name in editor.untrained:
        state.pop(f"{prefix}{name}", None)


def _expect_no_untrained(editor: Serac, keys: Any) -> None:
    ends = tuple(editor.untrained)
    keys.missing_keys[:] = [name for name in keys.missing_keys if not name.endswith(ends)]
