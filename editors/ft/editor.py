"""FT: gradient descent on the edit's own answer, for the MLP matrices of the last layers.

    D_e <- argmin NLL(answer_e | question_e; W + D_e),  one dense delta per edit and matrix

Each edit starts from the base weights and is optimised alone; B of them run side by side. With one
edited layer, what enters that layer's MLP at the answer tokens is computed once, and a step is that
MLP, the final norm and the head.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from editors.base import DeltaEdit, Setting
from editors.descent import descend
from editors.ft.config import FtOptions
from models.deltas import Delta, DenseDelta, Site, linear_weight
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch

OptimizerName = Literal["adam", "adamw"]
MOST_AT_ONCE = 32  # more do not make a step cheaper
MEMORY_BYTES = 8 * 2**30  # five edits of LLaVA-7B's last MLP side by side
DEFAULT_DECAY = {"adam": 0.0, "adamw": 0.01}  # torch's own, which the authors' code leaves as it is


class FineTune:
    """Fine-tunes both MLP matrices of the last layers, every edit by itself.

    Args:
        steps: largest number of optimiser steps per edit.
        optimizer: `adam` or `adamw`.
        lr: step size.
        layers: number of last decoder layers.
        stop_loss: an edit is done below this loss (nats per token); None: the loss does not matter.
        stop_when_argmax: an edit is done only once every answer token is the argmax. Where both
            conditions are set both must hold; where none is, all steps are taken.
        weight_decay: None for the optimiser's default in torch, 0.01 for `adamw`.
    """

    name = "ft"

    def __init__(
        self,
        *,
        steps: int,
        optimizer: OptimizerName = "adam",
        lr: float,
        layers: int = 1,
        stop_loss: float | None = None,
        stop_when_argmax: bool = False,
        weight_decay: float | None = None,
    ) -> None:
        self.steps, self.lr, self.layers = steps, lr, layers
        self.decoupled = optimizer == "adamw"
        self.weight_decay = DEFAULT_DECAY[optimizer] if weight_decay is None else weight_decay
        self.stop_loss, self.stop_when_argmax = stop_loss, stop_when_argmax

    def first_layer(self, model: EditableModel) -> int:
        """The lowest of the last `layers` layers."""
        return model.last_sites(self.layers)[0].layer

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One dense delta per edit and matrix.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        at = batch.rows.select(batch.edit_rows).answers()
        own = state.select(batch.edit_rows)
        sites = model.last_sites(self.layers)
        weights = [linear_weight(model.linear(site)) for site in sites]
        # Answers of one length side by side: nothing is spent on padding.
        order = at.row.bincount(minlength=at.n_rows).argsort(stable=True)
        parts = [
            self._descend(model, own.select(edits), at.select(edits), sites, weights)
            for edits in order.split(_at_once(weights))
        ]
        deltas = [torch.cat(pieces)[order.argsort()] for pieces in zip(*parts, strict=True)]
        return DeltaEdit(_as_deltas(sites, deltas))

    def _descend(
        self,
        model: EditableModel,
        state: PrefixState,
        at: Answers,
        sites: Sequence[Site],
        weights: Sequence[Tensor],
    ) -> list[Tensor]:
        judge = _LastLayer if self.layers == 1 else _Layers
        return descend(
            weights,
            at.n_rows,
            partial(self._judge, judge(model, state, at), sites),
            steps=self.steps,
            lr=self.lr,
            weight_decay=self.weight_decay,
            decoupled=self.decoupled,
        )

    def _judge(
        self,
        forward: _LastLayer | _Layers,
        sites: Sequence[Site],
        deltas: Sequence[Tensor],
        edits: Tensor,
    ) -> tuple[Tensor, Tensor]:
        logits, at = forward(_as_deltas(sites, deltas), edits)
        losses = at.row_mean(F.cross_entropy(logits, at.target, reduction="none"))
        done = torch.full_like(losses, self.stop_when_argmax or self.stop_loss is not None).bool()
        if self.stop_loss is not None:
            done &= losses < self.stop_loss
        if self.stop_when_argmax:
            wrong = (logits.argmax(-1) != at.target).to(losses.dtype)
            done &= at.row_mean(wrong) == 0
        return losses, done


class _Layers:
    """Answers of some of the edits, by a pass over all edited layers.

    Args:
        model: the base model.
        state: one row per edit, entering the lowest edited layer.
        at: the answers of these rows.
    """

    def __init__(self, model: EditableModel, state: PrefixState, at: Answers) -> None:
        self._model, self._state, self._at = model, state, at
        self._edits: Tensor | None = None

    def __call__(self, deltas: dict[Site, Delta], edits: Tensor) -> tuple[Tensor, Answers]:
        """Logits (N, V) and answers of the edits (A,), whose deltas are given in that order."""
        if self._edits is None or len(edits) != len(self._edits):  # edits only ever leave
            self._edits = edits
            self._chosen = self._at.select(edits)
            self._prepare(edits)
        return self._forward(deltas), self._chosen

    def _prepare(self, edits: Tensor) -> None:
        self._part = self._state.select(edits)

    def _forward(self, deltas: dict[Site, Delta]) -> Tensor:
        edit_index = torch.arange(self._chosen.n_rows, device=self._chosen.row.device)
        return self._model.suffix(self._part, deltas=deltas, edit_index=edit_index, at=self._chosen)


class _LastLayer(_Layers):
    """The same where only the last layer is edited: a step sees the answer tokens alone."""

    def __init__(self, model: EditableModel, state: PrefixState, at: Answers) -> None:
        super().__init__(model, state, at)
        self._hidden = model.answer_state(state, at)  # (N, d)

    def _prepare(self, edits: Tensor) -> None:
        self._part_hidden = self._hidden[torch.isin(self._at.row, edits)]

    def _forward(self, deltas: dict[Site, Delta]) -> Tensor:
        return self._model.finish_answers(self._part_hidden, deltas, self._chosen.row)


def build(options: FtOptions, model: EditableModel, setting: Setting) -> FineTune:
    """The editor that the options describe."""
    return FineTune(
        steps=options.steps,
        optimizer=options.optimizer,
        lr=options.lr,
        layers=options.layers,
        stop_loss=options.stop_loss,
        stop_when_argmax=options.stop_when_argmax,
    )


def _at_once(weights: Sequence[Tensor]) -> int:
    """How many edits are optimised side by side: delta, gradient and two moments of each."""
    each = sum(16 * weight.numel() for weight in weights)
    return max(1, min(MOST_AT_ONCE, MEMORY_BYTES // each))


def _as_deltas(sites: Sequence[Site], deltas: Sequence[Tensor]) -> dict[Site, Delta]:
    return {site: DenseDelta(delta) for site, delta in zip(sites, deltas, strict=True)}
