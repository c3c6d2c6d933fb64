"""Greedy answers of edited models, for any editor.

The target is taken as a draft of the answer (as in speculative decoding, Leviathan et al. 2023):
the teacher-forced pass that scores it has already shown how far greedy decoding would follow it and
which token it takes next. Only from there on tokens are asked for one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datamodules.tokenisation import PromptEncoder
from editors.base import Edit
from lightning_modules.scoring import Compared
from metrics.text import generation_match
from models.editable import EditableModel
from models.rows import Answers, Rows


@dataclass(frozen=True)
class Generator:
    """Answers rows freely.

    Attributes:
        model: the base model.
        encoder: the run's prompt function.
        first_layer: lowest layer that the edits change.
        max_new_tokens: longest answer; a longer target has its own length.
    """

    model: EditableModel
    encoder: PromptEncoder
    first_layer: int
    max_new_tokens: int

    @torch.no_grad()
    def generate(
        self, edit: Edit, rows: Rows, chosen: Tensor, scored: Compared
    ) -> dict[int, list[int]]:
        """What the edited models say after the prompts of some rows.

        Args:
            edit: the edits.
            rows: of the batch.
            chosen: (n,) the rows to answer.
            scored: the teacher-forced predictions for all rows.

        Returns:
            row -> its tokens, up to and without the end token.
        """
        said = {row: self._followed(scored, row) for row in chosen.tolist()}
        longest = {row: max(self.max_new_tokens, int((scored.at.row == row).sum())) for row in said}
        while going := [
            row for row, ids in said.items() if not self._ended(ids) and len(ids) < longest[row]
        ]:
            for row, token in zip(going, self._next(edit, rows, going, said), strict=True):
                said[row].append(token)
        return {row: self._cut(ids) for row, ids in said.items()}

    def matches(
        self, edit: Edit, rows: Rows, chosen: Tensor, scored: Compared
    ) -> tuple[Tensor, dict[int, str]]:
        """Whether the generated answers are the wanted ones, and the answers.

        Returns:
            (R,) 1 or 0, nan for rows that were not chosen; row -> text.
        """
        values = torch.full((len(rows),), torch.nan)
        texts: dict[int, str] = {}
        for row, ids in self.generate(edit, rows, chosen, scored).items():
            said = self._text(ids)
            target = self.encoder.decode(scored.at.target[scored.at.row == row])
            values[row] = generation_match(said, target)
            texts[row] = said.split("\n", 1)[0].strip()
        return values, texts

    def _followed(self, scored: Compared, row: int) -> list[int]:
        """The tokens of the draft that greedy decoding takes, and the one it takes instead."""
        here = scored.at.row == row
        predicted, target = scored.post.best[here].tolist(), scored.at.target[here].tolist()
        same = [one == other for one, other in zip(predicted, target, strict=True)]
        return predicted if all(same) else predicted[: same.index(False) + 1]

    def _next(
        self, edit: Edit, rows: Rows, going: Sequence[int], said: dict[int, list[int]]
    ) -> list[int]:
        """The likeliest next token of each row that goes on."""
        # A last token is only there to be predicted: no position before it can see it.
        texts = [rows.texts[row]._replace(said=(*said[row], self.encoder.pad_id)) for row in going]
        encoded = [
            self.encoder.encode(
                text.question, text.answer, picture=text.picture, plain=text.plain, said=text.said
            )
            for text in texts
        ]
        place = torch.tensor(going, device=rows.input_ids.device)
        longer = self.encoder.rows(
            encoded,
            texts,
            edit_index=rows.edit_index[place].tolist(),
            image_index=rows.image_index[place].tolist(),
        ).to(rows.input_ids.device)
        longer = replace(longer, pixel_values=rows.pixel_values, features=rows.features)
        every = longer.answers()
        last = torch.cat([every.row[1:] != every.row[:-1], every.row.new_ones(1).bool()])
        at = Answers(every.row[last], every.position[last], every.target[last], len(longer))
        state = self.model.prefix(longer, self.first_layer)
        tokens: list[int] = edit.answer(self.model, longer, state, at).argmax(-1).tolist()
        return tokens

    def _cut(self, ids: list[int]) -> list[int]:
        """The tokens before the first end token."""
        ends = [place for place, token in enumerate(ids) if token in self._ends()]
        return ids[: ends[0]] if ends else ids

    def _ended(self, ids: list[int]) -> bool:
        return len(self._cut(ids)) < len(ids) or "\n" in self._text(ids)

    def _ends(self) -> set[int]:
        told = getattr(self.model.hf, "generation_config", None)  # MiniGPT-4's class has none
        configured = getattr(told, "eos_token_id", None)
        ends = configured if isinstance(configured, list) else [configured]
        return {
            token for token in (*ends, self.encoder.tokenizer.eos_token_id) if token is not None
        }

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.encoder.tokenizer.decode(ids, skip_special_tokens=True)
        return text.lstrip(" ")
