"""What GRACE puts in the place of a map's output, and the values that are fitted to answers.

    y_t = V  at the replaced tokens t of a prompt,  W x_t  at all others
    V <- argmin NLL(answer | question; V)

Hartvigsen et al. 2023, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from editors.answer_descent import fit
from editors.grace.config import GraceOptions, Replaced
from editors.teaching import Teaching
from models.deltas import Site
from models.editable import EditableModel, PrefixState
from models.hooks import replace_output
from models.rows import Answers, Rows


def replaced_tokens(rows: Rows, replaced: Replaced) -> Tensor:
    """The tokens at which a value stands in for the map's output: (R, T) bool.

    Args:
        rows: each with an answer, or the beginning of one.
        replaced: `last`: the prompt's last token alone; `answer`: that one and all behind it;
            `prompt`: that one and all before it; `all`: every one.
    """
    end = rows.answers().prompt_end[:, None]
    place = torch.arange(rows.input_ids.shape[1], device=end.device)
    chosen = {
        "last": place == end,
        "answer": place >= end,
        "prompt": place <= end,
        "all": torch.ones_like(rows.attention_mask),
    }[replaced]
    return chosen & rows.attention_mask


class Replacing:
    """Rows that are answered with values in the place of a map's output.

    Args:
        model: the base model, never changed.
        state: of the rows, entering the map's layer or below, each in a sequence of its own: rows
            that begin alike may be changed at different tokens.
        site: an MLP's matrix.
        at: the answer tokens to predict.
        tokens: (R, T) bool, where values stand in.
    """

    def __init__(
        self, model: EditableModel, state: PrefixState, site: Site, at: Answers, tokens: Tensor
    ) -> None:
        self._model, self._module = model, model.linear(site)
        self._state, self._at = state, at
        self._hidden: Tensor | None = None
        if model.is_at_answers(site):
            self._hidden = model.answer_state(self._state, at)
            self._place = tokens[at.row, at.position].nonzero().squeeze(1)
            self._row = at.row[self._place]
        else:
            self._row, position = tokens.nonzero(as_tuple=True)
            (part,) = self._state.parts
            self._sequence, self._place = part.where(self._row, position)
            self._n_rows = len(part.hidden)

    def answers(self, values: Tensor) -> Tensor:
        """Logits under one value for each row: (R, d_out) -> (N, V)."""
        vectors = values[self._row]
        if self._hidden is not None:
            first = torch.zeros_like(self._place)
            with replace_output(self._module, self._place, first, vectors, len(self._hidden)):
                return self._model.finish_answers(self._hidden)
        with replace_output(self._module, self._sequence, self._place, vectors, self._n_rows):
            return self._model.suffix(self._state, at=self._at)


def fit_values(
    model: EditableModel,
    teaching: Teaching,
    site: Site,
    tokens: Tensor,
    start: Tensor,
    options: GraceOptions,
) -> Tensor:
    """One value for each row that teaches, side by side.

    Args:
        model: the base model.
        teaching: K rows, each an edit of its own.
        site: the map whose output is replaced.
        tokens: (K, T) bool, where.
        start: (K, d_out) where the descent begins.
        options: steps, step size and early stop.

    Returns:
        (K, d_out) in float32 or better.

    Raises:
        ModelError: a loss is not finite.
    """

    def answers_under(edits: Tensor) -> _Answers:
        return _Answers(model, teaching.select(edits), site, tokens[edits], start[edits])

    moves = fit(model, teaching, [start[0]], answers_under, options, [site])
    return start + moves[0]


class _Answers:
    """Answers of the edits at work, under values that have moved from their start."""

    def __init__(
        self, model: EditableModel, teaching: Teaching, site: Site, tokens: Tensor, start: Tensor
    ) -> None:
        self._model, self._teaching, self._site = model, teaching, site
        self._tokens, self._start = tokens, start
        self._part: Teaching | None = None

    def __call__(self, moves: Sequence[Tensor], at_work: Tensor) -> tuple[Tensor, Teaching]:
        if self._part is None or self._part.n_edits != len(at_work):  # edits only ever leave
            self._part = part = self._teaching.select(at_work, apart=True)
            tokens = self._tokens[at_work]
            self._replacing = Replacing(self._model, part.state, self._site, part.at, tokens)
        return self._replacing.answers(self._start[at_work] + moves[0]), self._part
