"""ROME: an edit with the answers of a record that shows pictures."""

from __future__ import annotations

import copy
from functools import cached_property

import torch
from torch import Tensor

from benchmarks.cases.case import Evaluation, agree_as_matrices
from benchmarks.floor import Floor, Tokens, pictures
from benchmarks.reference.passes import Row, rows_of
from benchmarks.reference.rome import rome_weights
from editors.base import DeltaEdit, EditorInputs
from editors.rome.config import RomeOptions
from editors.rome.editor import Rome, build
from editors.rome.prompts import assemble
from lightning_modules.predictions import base_predictions

# Where an activation has a kink (OPT's ReLU), rounding may take a step to its other side. Adam at
# a rate of 0.5 makes of it a tenth of the edit in 24 steps; in float64 both sides stay together.
CHECKED_STEPS = 4


class RomeEvaluation(Evaluation):
    """A record of the transitive scenario under ROME: 21 prompts, 25 steps at most."""

    name = "rome"
    brief = "ROME, edit and answers of a transitive record"
    asked = "transitive"

    @cached_property
    def editor(self) -> Rome:
        options = self.setting.evaluation("rome", "scenario=transitive").editor
        assert isinstance(options, RomeOptions)
        return build(options, self.model, EditorInputs(self.setting.encoder))

    def edited(self, rows: list[Row]) -> Tensor:
        return self.reference.answers(rows, self._weights(self.editor))

    def check(self) -> None:
        editor = copy.copy(self.editor)
        editor.options = editor.options.model_copy(update={"steps": CHECKED_STEPS})
        self.compare(editor, share=1e-3)

    def compare(self, editor: Rome, share: float) -> None:
        """Compares an edit of `single` and the answers before and after it.

        Args:
            editor: the engine's; the reference takes its options and prefixes.
            share: of the edit's norm by which both may differ.

        Raises:
            AssertionError: their numbers differ.
        """
        batch, state, at = self.prefix(self.single)
        edit: DeltaEdit = editor.edit(self.model, batch, state)
        weights, rows = self._weights(editor), rows_of(self.single)
        weight, (theirs,) = self.model.weight(editor.site), weights.values()
        agree_as_matrices(edit.deltas[editor.site].dense()[0], theirs - weight, share)
        with torch.no_grad():
            before = base_predictions(self.model, batch.rows, state, at).best
        for ours, asked in ((before, None), (self.answer(edit, batch, state, at), weights)):
            same = torch.equal(ours, self.reference.answers(rows, asked))
            assert same, f"{self.name}: the answers differ"

    def _weights(self, editor: Rome) -> dict[str, Tensor]:
        return rome_weights(self.reference, self.model, editor, self.single)

    def floor(self) -> Floor:
        """No edit stops early: the base model's answers are noise, and none is learned in time."""
        batch, shape, options = self.batch, self.shape, self.editor.options
        texts = [batch.rows.texts[row] for row in batch.edit_rows.tolist()]
        rows, prompts = assemble(
            self.editor.encoder, texts, batch.subjects, prefixes=self.editor.prefixes,
            essence=options.kl_prompt, fact_token=options.fact_token,
        )  # fmt: skip
        above = shape.layers - options.layer - 1  # the offset is added behind its own layer
        every = self.tokens(self.every)
        first = rows.attention_mask.int().argmax(1)
        looked_at = Tokens.behind(prompts.lookup - first, prompts.last - first)
        before = Tokens.behind(torch.zeros_like(first), prompts.lookup - 1 - first)
        n_answers, n_asked = len(batch.rows.answers().row), len(prompts.at.row) + len(batch)
        steps = options.steps - 1
        descent = shape.upper(looked_at, n_asked, above)
        below = options.layer + 1
        return Floor(
            {
                "vision": pictures(batch.rows) * shape.picture,
                "prefix": shape.passes(every, below),
                "unedited": shape.upper(every, n_answers, above),
                # Keys and values before the lookup token are those of the unedited model.
                "capture": shape.passes(before, shape.layers - 1) + shape.passes(looked_at, below),
                "editor": 2 * steps * descent,  # forward, and backward through activations
                "edited": shape.upper(every, n_answers, above),
                "head": 2 * shape.head(n_answers) + 2 * steps * shape.head(n_asked),
            },
            edits=len(batch),
        )
