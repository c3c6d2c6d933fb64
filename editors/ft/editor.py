"""FT: gradient descent on the edit's own answer, for the MLP matrices of the last layers.

    D_e <- argmin NLL(answer_e | question_e; W + D_e),  one dense delta per edit and matrix

FT-L (Meng et al. 2022; Zhu et al. 2020) clips D_e to |D_e| <= eps elementwise after every step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from editors.answer_descent import Schedule, fit_answers
from editors.base import DeltaEdit, EditorInputs
from editors.descent import Project
from editors.ft.config import FtOptions
from models.deltas import Delta, DenseDelta, Site
from models.editable import EditableModel, PrefixState
from models.rows import Answers, EditBatch

OptimizerName = Literal["adam", "adamw"]
LossAt = Literal["answer", "prompt_last"]
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
        norm_constraint: largest |W' - W| of any weight; None for no limit.
        loss_at: where answer tokens are predicted: each where it stands (`answer`), or all at the
            prompt's last token (`prompt_last`).
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
        norm_constraint: float | None = None,
        loss_at: LossAt = "answer",
    ) -> None:
        self.layers, self.norm_constraint, self.loss_at = layers, norm_constraint, loss_at
        self.schedule = Schedule(
            steps=steps,
            lr=lr,
            weight_decay=DEFAULT_DECAY[optimizer] if weight_decay is None else weight_decay,
            decoupled=optimizer == "adamw",
            stop_loss=stop_loss,
            stop_when_argmax=stop_when_argmax,
        )

    def first_layer(self, model: EditableModel) -> int:
        """The lowest of the last `layers` layers."""
        return model.last_sites(self.layers)[0].layer

    def edit(self, model: EditableModel, batch: EditBatch, state: PrefixState) -> DeltaEdit:
        """One dense delta per edit and matrix.

        Raises:
            ModelError: an edit's loss is not finite.
        """
        at = batch.rows.select(batch.edit_rows).answers()
        sites = model.last_sites(self.layers)

        def as_deltas(moves: Sequence[Tensor]) -> dict[Site, Delta]:
            return {site: DenseDelta(move) for site, move in zip(sites, moves, strict=True)}

        moves = fit_answers(
            model,
            state.select(batch.edit_rows),
            at if self.loss_at == "answer" else at_prompt_end(at),
            [model.weight(site) for site in sites],
            as_deltas,
            self.schedule,
            None if self.norm_constraint is None else within(self.norm_constraint),
        )
        return DeltaEdit(as_deltas(moves))


def within(bound: float) -> Project:
    """A projection that brings every move back to [-bound, bound], in place."""

    def clamp(moves: Sequence[Tensor], _edits: Tensor) -> None:
        for move in moves:
            move.clamp_(-bound, bound)

    return clamp


def at_prompt_end(at: Answers) -> Answers:
    """The same answer tokens, all predicted at the last token before the answer."""
    unset = torch.iinfo(at.position.dtype).max
    first = at.position.new_full((at.n_rows,), unset)
    first = first.scatter_reduce(0, at.row, at.position, "amin")
    return replace(at, position=first[at.row])


def build(options: FtOptions, model: EditableModel, inputs: EditorInputs) -> FineTune:
    """The editor that the options describe."""
    return FineTune(
        steps=options.steps,
        optimizer=options.optimizer,
        lr=options.lr,
        layers=options.layers,
        stop_loss=options.stop_loss,
        stop_when_argmax=options.stop_when_argmax,
        norm_constraint=options.norm_constraint,
        loss_at=options.loss_at,
    )
