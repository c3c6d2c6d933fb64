"""Descent on the edit's own answer, whatever the weight delta is made of.

    theta_e <- argmin NLL(answer_e | question_e; W + D(theta_e)),  one theta for each edit

An edit that several questions teach descends on the mean of their NLL.

FT has D(theta) = theta (`editors.ft.descent`), LoRA D(theta) = s B A. Each edit starts from the
same theta and is optimised alone; B of them run side by side. Where only the last layer's MLP is
edited, what enters it at the answer tokens is computed once, and a step is that MLP, the final norm
and the head.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from editors.descent import descend
from editors.options import DescentOptions
from editors.teaching import Teaching
from models.deltas import Delta, Site
from models.editable import EditableModel

AsDeltas = Callable[[Sequence[Tensor]], Mapping[Site, Delta]]
AnswersOf = Callable[[Mapping[Site, Delta], Tensor], tuple[Tensor, Teaching]]
DeltasOf = Literal["all edits", "edits at work"]
MOST_AT_ONCE = 32  # more do not make a step cheaper
# Values kept for the backward pass per token, unit of width and layer: 34 bytes in half precision
# (Korthikanti et al. 2022, Reducing Activation Recomputation, section 4.1), hence 17 values.
KEPT_VALUES = 17


def fit_answers(
    model: EditableModel,
    teaching: Teaching,
    start: Sequence[Tensor],
    as_deltas: AsDeltas,
    options: DescentOptions,
) -> list[Tensor]:
    """Fits every edit's parameters to its answer.

    Args:
        model: the base model, never changed.
        teaching: the edits, entering the lowest edited layer or below.
        start: the parameters that all edits start from, each of any shape S.
        as_deltas: moves (A, *S) of A edits from the start -> their weight deltas.
        options: steps, step size and early stop.

    Returns:
        Per parameter the edits' moves from the start: (B, *S) in float32 or better.

    Raises:
        ModelError: an edit's loss is not finite.
    """
    sites = as_deltas([parameter[None] for parameter in start]).keys()
    order, parts = teaching.by_length(), []
    for edits in order.split(edits_at_once(model, start, teaching, sites)):
        forward = answers_of(model, teaching.select(edits), sites, deltas_of="edits at work")

        def judge(
            moves: Sequence[Tensor], at_work: Tensor, forward: AnswersOf = forward
        ) -> tuple[Tensor, Tensor]:
            logits, at_it = forward(as_deltas(moves), at_work)
            return losses_of(logits, at_it, options)

        parts.append(descend(start, len(edits), judge, steps=options.steps, lr=options.lr))
    back = order.argsort()
    return [torch.cat(pieces)[back] for pieces in zip(*parts, strict=True)]


def losses_of(logits: Tensor, teaching: Teaching, options: DescentOptions) -> tuple[Tensor, Tensor]:
    """Losses of the edits at work, and which of them are done.

    Args:
        logits: (N, V).
        teaching: the edits (A,).
        options: say when an edit is done: where both conditions are set both must hold, of each of
            its rows; where none is, all steps are taken.

    Returns:
        Losses (A,), whether done (A,).
    """
    at = teaching.at
    losses = at.row_mean(F.cross_entropy(logits, at.target, reduction="none"))
    stop_loss, by_argmax = options.stop_loss, options.stop_when_argmax
    done = torch.full_like(losses, by_argmax or stop_loss is not None).bool()
    if stop_loss is not None:
        done &= losses < stop_loss
    if by_argmax:
        wrong = (logits.argmax(-1) != at.target).to(losses.dtype)
        done &= at.row_mean(wrong) == 0
    return teaching.mean(losses), teaching.every(done)


def answers_of(
    model: EditableModel, teaching: Teaching, sites: Collection[Site], *, deltas_of: DeltasOf
) -> AnswersOf:
    """What answers the edits under their deltas: deltas, edits at work (A,) -> logits, their rows.

    Args:
        model: the base model.
        teaching: the edits, entering the lowest edited layer.
        sites: the edited maps.
        deltas_of: the edits that the deltas are of. Those of all edits go by their number, and
            every row then stands in a sequence of its own, all of them in one part; those of the
            edits at work are in the order of these.
    """
    kind = _LastMLP if all(model.is_at_answers(site) for site in sites) else _Layers
    return kind(model, teaching, deltas_of)


class _Layers:
    """Answers of some of the edits, by a pass over all edited layers.

    Args: see `answers_of`.
    """

    def __init__(self, model: EditableModel, teaching: Teaching, deltas_of: DeltasOf) -> None:
        self._model, self._teaching = model, teaching
        self._of_all = deltas_of == "all edits"
        self._edits: Tensor | None = None

    def __call__(self, deltas: Mapping[Site, Delta], edits: Tensor) -> tuple[Tensor, Teaching]:
        """Logits (N, V) and rows of the edits (A,), ascending."""
        if self._edits is None or len(edits) != len(self._edits):  # edits only ever leave
            self._edits = edits
            self._part = self._teaching.select(edits, apart=self._of_all)
            self._edit_index = edits[self._part.edit] if self._of_all else self._part.edit
            self._prepare(edits)
        return self._forward(deltas), self._part

    def _prepare(self, edits: Tensor) -> None:
        """What all steps of the edits at work have in common."""

    def _forward(self, deltas: Mapping[Site, Delta]) -> Tensor:
        part = self._part
        return self._model.suffix(
            part.state, deltas=deltas, edit_index=self._edit_index, at=part.at
        )


class _LastMLP(_Layers):
    """The same where only the last layer's MLP is edited: a step sees the answer tokens alone."""

    def __init__(self, model: EditableModel, teaching: Teaching, deltas_of: DeltasOf) -> None:
        super().__init__(model, teaching, deltas_of)
        self._hidden = model.answer_state(teaching.state, teaching.at)  # (N, d)

    def _prepare(self, edits: Tensor) -> None:
        self._part_hidden = self._hidden[torch.isin(self._teaching.token_edit, edits)]

    def _forward(self, deltas: Mapping[Site, Delta]) -> Tensor:
        return self._model.finish_answers(
            self._part_hidden, deltas, self._edit_index[self._part.at.row]
        )


def edits_at_once(
    model: EditableModel, start: Sequence[Tensor], teaching: Teaching, sites: Collection[Site]
) -> int:
    """How many edits are optimised side by side.

    Each holds a move, its gradient and two moments in float32 for every parameter, and what the
    layers that run at all tokens keep for their backward pass: from the lowest of the sites on,
    and of the last one its attention.

    Raises:
        ModelError: the moments of one edit alone are more than the device has.
    """
    optimiser = sum(16 * parameter.numel() for parameter in start)
    of_rows = teaching.state.row_bytes * teaching.most_rows
    above = model.n_layers - 1 - min(site.layer for site in sites)
    whole_layers = 0 if all(model.is_at_answers(site) for site in sites) else max(1, above)
    activations = KEPT_VALUES * of_rows * whole_layers
    model.budget.check(
        optimiser,
        f"the descent of one edit (a move, a gradient and two moments of {len(start)} tensors)",
        "Lower editor.layers, take an editor of few parameters (editor=lora), a smaller form of "
        "the model (model.quantise=4bit) or a device with more memory.",
    )
    return min(MOST_AT_ONCE, model.budget.fit(optimiser + activations))
