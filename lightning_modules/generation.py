"""Greedy answers of edited models, for any editor.

The target is taken as a draft of the answer (as in speculative decoding, Leviathan et al. 2023):
the teacher-forced pass that scores it has already shown how far greedy decoding would follow it and
which token it takes next. Only from there on tokens are asked for one by one. An answer ends with
an end token, a line break, at its longest, or where the model has no position for another token.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from datamodules.prompt_encoder import PromptEncoder
from editors.base import DeltaEdit, Edit, ReadsMore
from lightning_modules.finite import FiniteCheck
from lightning_modules.scoring import Comparison
from metrics.text import first_lines, generation_match, has_ended
from models.decoding import Decoding, rows_at_once
from models.editable import EditableModel
from models.rows import Answers, Rows, RowText

log = logging.getLogger(__name__)
NextTokens = Callable[[Sequence[int]], list[int]]  # rows that go on -> a token of each


@dataclass(frozen=True)
class Generator:
    """Answers rows freely.

    Attributes:
        first_layer: lowest layer that the edits change.
        max_new_tokens: longest answer; a longer target or alias has its own length.
        check: refuses answers that are no numbers.
    """

    model: EditableModel
    encoder: PromptEncoder
    first_layer: int
    max_new_tokens: int
    check: FiniteCheck

    @torch.no_grad()
    def generate(
        self, edit: Edit, rows: Rows, to_answer: Tensor, comparison: Comparison
    ) -> dict[int, list[int]]:
        """What the edited models say after the prompts of some rows.

        Returns:
            row -> its tokens, up to and without the end token.
        """
        answers = {
            row: _followed(comparison, row) if self._is_draft(rows.texts[row]) else []
            for row in to_answer.tolist()
        }
        n_target = comparison.at.row.bincount(minlength=len(rows)).tolist()
        wanted = {
            row: max(self.max_new_tokens, n_target[row], *self._alias_lengths(rows.texts[row]))
            for row in answers
        }
        room = self._room(edit, rows)
        longest = {row: min(n, room[row]) for row, n in wanted.items()}
        targets = {row: self._target(comparison, row) for row in answers}

        def goes_on(row: int) -> bool:
            return not self._ended(answers[row], targets[row]) and len(answers[row]) < longest[row]

        for group, next_tokens in self._groups(edit, rows, answers, longest, goes_on):
            while unfinished := [row for row in group if goes_on(row)]:
                for row, token in zip(unfinished, next_tokens(unfinished), strict=True):
                    answers[row].append(token)
        cut = [
            row
            for row, ids in answers.items()
            if len(ids) < wanted[row] and not self._ended(ids, targets[row])
        ]
        if cut:
            log.warning(
                "%d of %d generated answers end where the model has no more positions (%d in all), "
                "and are matched as they are then",
                len(cut), len(answers), self.model.max_positions,
            )  # fmt: skip
        return {row: self._before_end(ids) for row, ids in answers.items()}

    def matches(
        self, edit: Edit, rows: Rows, to_answer: Tensor, comparison: Comparison
    ) -> tuple[Tensor, dict[int, str]]:
        """Whether the generated answers are the targets or other names of them, and the answers.

        Returns:
            (R,) 1 or 0, nan for rows that were not answered; row -> text.
        """
        values = torch.full((len(rows),), torch.nan)
        texts: dict[int, str] = {}
        for row, ids in self.generate(edit, rows, to_answer, comparison).items():
            text = self._text(ids)
            target = self._target(comparison, row)
            values[row] = generation_match(text, target, rows.texts[row].aliases)
            texts[row] = first_lines(text, target).strip()
        return values, texts

    def _alias_lengths(self, text: RowText) -> list[int]:
        """How many tokens each other name of the answer has as an answer."""
        named = [text._replace(answer=alias, generated=()) for alias in text.aliases]
        return [sum(self.encoder.encode(**name.tokens).answer) for name in named]

    def _room(self, edit: Edit, rows: Rows) -> list[int]:
        """How many tokens have a position behind the prompt of each row."""
        first = (self.encoder.pad_id,)
        begun = replace(rows, texts=tuple(text._replace(generated=first) for text in rows.texts))
        if isinstance(edit, ReadsMore):
            return [1 + more for more in edit.room(self.model, begun)]
        lengths = [len(self.encoder.encode(**text.tokens).ids) for text in begun.texts]
        return [1 + self.model.max_positions - length for length in lengths]

    def _groups(
        self,
        edit: Edit,
        rows: Rows,
        answers: dict[int, list[int]],
        longest: Mapping[int, int],
        goes_on: Callable[[int], bool],
    ) -> Iterator[tuple[list[int], NextTokens]]:
        """Rows that are answered side by side, and what gives their next tokens.

        Edits that are weight deltas go on behind keys and values that are read once; a group has as
        many rows as there is memory for. All others read whole rows again at each step.
        """
        unfinished = [row for row in answers if goes_on(row)]
        if not isinstance(edit, DeltaEdit) or not unfinished or self.model.packed_mask is None:
            yield list(answers), partial(self._next_tokens, edit, rows, answers=answers)
            return
        n_tokens = rows.attention_mask.sum(1).tolist()
        lengths = [n_tokens[row] + longest[row] for row in unfinished]
        for part in rows_at_once(self.model, lengths):
            group = unfinished[part.start : part.stop]
            yield group, _BehindPrompts(self, edit, rows, group, answers)

    def begun(
        self, rows: Rows, unfinished: Sequence[int], answers: Mapping[int, list[int]]
    ) -> tuple[Rows, Answers]:
        """Prompts with what was answered so far, and the token before the next one of each."""
        # A last token is only there to be predicted: no position before it can see it.
        texts = [
            rows.texts[row]._replace(generated=(*answers[row], self.encoder.pad_id))
            for row in unfinished
        ]
        encoded = [self.encoder.encode(**text.tokens) for text in texts]
        of_rows = torch.tensor(unfinished, device=rows.input_ids.device)
        longer = self.encoder.rows(
            encoded,
            texts,
            edit_index=rows.edit_index[of_rows].tolist(),
            image_index=rows.image_index[of_rows].tolist(),
        ).to(rows.input_ids.device)
        longer = longer.showing(rows)
        answer = longer.answers()
        last = torch.cat([answer.row[1:] != answer.row[:-1], answer.row.new_ones(1).bool()])
        at = Answers(answer.row[last], answer.position[last], answer.target[last], len(longer))
        return longer, at

    def _next_tokens(
        self, edit: Edit, rows: Rows, unfinished: Sequence[int], answers: dict[int, list[int]]
    ) -> list[int]:
        """The likeliest next token of each row that goes on."""
        longer, at = self.begun(rows, unfinished, answers)
        state = self.model.prefix(longer, self.first_layer, packed=True)
        return self.likeliest(edit.answer(self.model, longer, state, at), unfinished)

    def likeliest(self, logits: Tensor, of_rows: Sequence[int]) -> list[int]:
        """The likeliest token of each row, (n, V); refuses what is no number."""
        rows = torch.tensor(of_rows, device=logits.device)
        self.check.edited(logits.amax(-1), rows)
        tokens: list[int] = logits.argmax(-1).tolist()
        return tokens

    def _is_draft(self, text: RowText) -> bool:
        """Whether the scored row asks with the prompt's own tokens, so that its target is a draft.

        After two blanks Llama has one token for both where a digit follows, and two elsewhere.
        """
        scored = self.encoder.encode(**text.tokens)
        asked = self.encoder.encode(**text._replace(generated=(self.encoder.pad_id,)).tokens)
        return scored.ids[: scored.answer.index(True)] == asked.ids[:-1]

    def _before_end(self, ids: list[int]) -> list[int]:
        """The tokens before the first end token."""
        ends = [index for index, token in enumerate(ids) if token in self._end_tokens()]
        return ids[: ends[0]] if ends else ids

    def _ended(self, ids: list[int], target: str) -> bool:
        return len(self._before_end(ids)) < len(ids) or has_ended(self._text(ids), target)

    def _target(self, comparison: Comparison, row: int) -> str:
        """The answer that is scored, as text."""
        return self.encoder.decode(comparison.at.target[comparison.at.row == row])

    def _end_tokens(self) -> set[int]:
        config = getattr(self.model.hf, "generation_config", None)  # MiniGPT-4's class has none
        configured = getattr(config, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        return {token for token in (*ends, self.encoder.end_id) if token is not None}

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.encoder.tokenizer.decode(ids, skip_special_tokens=True)
        return text.lstrip(" ")


class _BehindPrompts:
    """Next tokens of a group of rows, in step, behind prompts that are read once."""

    def __init__(
        self,
        generator: Generator,
        edit: DeltaEdit,
        rows: Rows,
        group: Sequence[int],
        answers: Mapping[int, list[int]],
    ) -> None:
        self._generator, self._answers = generator, answers
        self._place = {row: place for place, row in enumerate(group)}
        prompts, at = generator.begun(rows, group, answers)
        self._decoding = Decoding(generator.model, prompts, at, edit.deltas)
        self._begun = False

    def __call__(self, unfinished: Sequence[int]) -> list[int]:
        places = torch.tensor(
            [self._place[row] for row in unfinished], device=self._generator.model.device
        )
        if not self._begun:
            self._begun, logits = True, self._decoding.first()
        else:
            last = torch.tensor([self._answers[row][-1] for row in unfinished]).to(places)
            logits = self._decoding.step(places, last)
        return self._generator.likeliest(logits[places], unfinished)


def _followed(comparison: Comparison, row: int) -> list[int]:
    """The tokens of the draft that greedy decoding takes, and the one it takes instead."""
    tokens = comparison.at.row == row
    predicted = comparison.post.best[tokens].tolist()
    target = comparison.at.target[tokens].tolist()
    same = [one == other for one, other in zip(predicted, target, strict=True)]
    return predicted if all(same) else predicted[: same.index(False) + 1]
