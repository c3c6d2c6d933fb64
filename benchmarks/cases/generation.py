"""Generated answers of edited models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch

from benchmarks.cases.case import Edited
from benchmarks.cases.mend import mend_floor, ready_mend
from benchmarks.floor import Floor, Tokens
from benchmarks.reference.generation import continued
from benchmarks.reference.losses import mend_weights
from benchmarks.reference.passes import alone, rows_of
from editors.mend.editor import Mend
from lightning_modules.finite import FiniteCheck
from lightning_modules.generation import Generator
from lightning_modules.predictions import base_predictions
from lightning_modules.scoring import compare, target_rows
from metrics.text import has_ended
from models.rows import EditBatch

LONGEST = 16


class Generation(Edited):
    """MEND's edit of a multimodal record, and an answer to each question that has a target."""

    name = "generation"
    brief = "MEND, edit and generated answers of a multimodal record"

    @cached_property
    def editor(self) -> Mend:
        return ready_mend(self.setting)

    def engine(self) -> dict[int, list[int]]:
        return self._generate(self.batch)

    def _generate(self, batch: EditBatch) -> dict[int, list[int]]:
        """Row -> its answer's tokens, as the evaluation has them: targets are drafts."""
        model, editor = self.model, self.editor
        batch, state, at = self.prefix(batch)
        with torch.no_grad():
            edit = editor.edit(model, batch, state)
            before = base_predictions(model, batch.rows, state, at)
            comparison = compare(model, edit, batch.rows, state, at, before)
            check = FiniteCheck(batch, model, editor.name)
            layer = editor.first_layer(model)
            generator = Generator(model, self.setting.encoder, layer, LONGEST, check)
            return generator.generate(edit, batch.rows, target_rows(batch), comparison)

    def published(self) -> dict[int, list[int]]:
        batch, rows = self.single, rows_of(self.single)
        reference = self.reference
        reference.answers(rows)
        with torch.no_grad():
            weights = mend_weights(reference, self.editor, rows[int(batch.edit_rows)])
        reference.answers(rows, weights)
        answers = {}
        for number in target_rows(batch).tolist():
            one = alone(batch.rows, number)
            longest = max(LONGEST, len(rows[number].target), *self._aliases(batch, number))
            ends = _Ends(self, self.setting.encoder.decode(rows[number].target))
            first = int(one.answer_mask[0].int().argmax())
            prompt = replace(rows[number], ids=one.input_ids[:, :first])
            said = continued(reference, prompt, weights, longest, ends)
            answers[number] = ends.before(said)
        return answers

    def check(self) -> None:
        ours, theirs = self._generate(self.single), self.published()
        assert ours == theirs, f"{self.name}: the answers differ"

    def floor(self) -> Floor:
        """Of the edit, the scored answers and the tokens that are generated after their prompts."""
        batch, shape = self.batch, self.shape
        scored = mend_floor(self, self.editor)
        answers = self._generate(batch)
        lengths = batch.rows.attention_mask.sum(1).cpu()
        at = torch.tensor([int(lengths[row]) for row in answers])
        new = torch.tensor([len(ids) for ids in answers.values()])
        tokens = Tokens.behind(at, at + new - 1)
        operations = dict(scored.operations)
        operations["edited"] += shape.passes(tokens, shape.layers)
        operations["head"] += shape.head(tokens.count)
        return Floor(operations, edits=len(batch))

    def _aliases(self, batch: EditBatch, number: int) -> list[int]:
        text = batch.rows.texts[number]
        named = [text._replace(answer=alias, generated=()) for alias in text.aliases]
        return [sum(self.setting.encoder.encode(**name.tokens).answer) for name in named]


class _Ends:
    """Where an answer ends: with an end token, or as the target's lines do."""

    def __init__(self, case: Generation, target: str) -> None:
        self._tokenizer, self._target = case.setting.encoder.tokenizer, target
        configured = getattr(case.model.hf, "generation_config", None)
        self._tokens = {
            self._tokenizer.eos_token_id, getattr(configured, "eos_token_id", None),
        } - {None}  # fmt: skip

    def before(self, ids: Sequence[int]) -> list[int]:
        """The tokens before the first end token."""
        ends = [place for place, token in enumerate(ids) if token in self._tokens]
        return list(ids[: ends[0]] if ends else ids)

    def __call__(self, ids: Sequence[int]) -> bool:
        said = self._tokenizer.decode(ids, skip_special_tokens=True).lstrip(" ")
        return len(self.before(ids)) < len(ids) or has_ended(said, self._target)
