"""Training of RLEdit: one step makes a trajectory of updates that all stay in place.

    theta_t = theta_{t-1} + dW_t        dW_t the update of turn t, made on theta_{t-1}

    L = sum_t [ sum_{i=0..min(memory, t)} discount^i L_{t-i}(theta_t) + norm_weight |dW_t|^2 ]

L_s(theta) is the outer loss of the edits of turn s under theta, KL from the unedited model. An
update has to do its own turn's edits and to leave those of the turns before it.

The gradient of step t is taken at dW_t, with theta_{t-1} a constant, as MALMEN's is taken
(`lightning_modules.decoupled`). Keys and gradients of later turns depend on dW_t too, and a graph
through them would lead back through the backward pass of the language model, turn by turn, and hold
all turns at once. What earlier updates did to a turn is judged all the same, at its own step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from datamodules.order import dealt
from editors.base import DeltaEdit
from editors.objective import OuterLoss
from editors.rledit.config import RleditOptions
from editors.rledit.editor import Rledit
from editors.turn import Turn
from lightning_modules.decoupled import DecoupledUpdate, with_gradients
from lightning_modules.malmen import MalmenTraining, under_one
from models.deltas import Delta, DenseDelta, join_deltas
from models.editable import EditableModel, PrefixState
from models.parts import select_edits, split_edits
from models.rows import Answers, EditBatch, Rows

Parts = Sequence[EditBatch]  # the edits of a turn


class RleditTraining(MalmenTraining):
    """Trains an RLEdit editor for a frozen base model."""

    options: RleditOptions
    editor: Rledit

    def training_step(self, batch: EditBatch, batch_idx: int) -> Tensor:
        """Loss of one trajectory."""
        self._since_step.append(batch)
        turns = self.turns(batch)
        totals: dict[str, Tensor] = {}
        losses, earlier = list[OuterLoss](), DeltaEdit()
        for number, parts in enumerate(turns):
            turn = self._read(parts)
            with earlier.in_place(self.model):
                update = self.update_of(turn)
            known = turns[max(0, number - self.options.memory) : number + 1]
            losses.append(self.judge_step(update, earlier, known))
            for name, gradient in update.gradients().items():
                totals[name] = totals[name] + gradient if name in totals else gradient
            earlier = update.edit.after(earlier)
        loss = _of_trajectory(losses)
        self.log_loss(loss, len(batch))
        return with_gradients(loss.total, self.editor, totals)

    def validation_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Judges a batch's edits with all of their turns in place; nothing is learned."""
        if not self.ready and self.trainer.sanity_checking:
            return
        turns = self.turns(batch)
        edits = DeltaEdit()
        for parts in turns:
            turn = self._read(parts)
            with edits.in_place(self.model):
                edit = self.editor.edit_together(self.model, turn, edits)
            edits = edit.after(edits)
        every = [part for parts in turns for part in parts]
        self.measure_loss(self.judge_parts(edits, every), len(batch))
        for part in every:
            state, part = self._entered(part, part.edit_rows.sort().values)
            right = self._reliability(under_one(part), state, edits)
            self.measure("reliability", right, len(part))

    def turns(self, batch: EditBatch) -> list[Parts]:
        """The edits of a batch, dealt out to a trajectory's turns, in parts of `batch_size`."""
        of_turns = dealt(len(batch), self.options.n_updates)
        turns = [select_edits(batch, edits) for edits in of_turns]
        return [split_edits(turn, self.options.batch_size) for turn in turns]

    def judge_step(
        self, update: DecoupledUpdate, earlier: DeltaEdit, known: Sequence[Parts]
    ) -> OuterLoss:
        """What an update is worth to its own turn and to those before it; the update collects it.

        Args:
            update: of the last of these turns.
            earlier: what the turns before it left in place.
            known: turns that are judged, in their order.

        Returns:
            The sum; its terms are those of the last turn.
        """
        size = torch.stack([squared_norm(delta) for delta in update.edit.deltas.values()]).sum()
        pull, edit = self.options.norm_weight * size, OnTop(earlier, update.edit)
        update.collect(pull, self.scale)
        losses, shares = list[OuterLoss](), list[Tensor]()
        for ago, parts in enumerate(reversed(known)):
            share = self.options.discount**ago
            losses.append(self.judge_parts(edit, parts, partial(self._collect, update, share)))
            shares.append(share * losses[-1].total)
        return replace(losses[0], total=torch.stack([pull.detach(), *shares]).sum())

    def _collect(self, update: DecoupledUpdate, share: float, loss: Tensor) -> None:
        update.collect(share * loss, self.scale)

    def _read(self, parts: Parts) -> Turn:
        """A turn whose states are there already; with edits in place none is taken from a cache."""
        turn = self.turn(parts)
        read = list(turn)
        return Turn(len(turn), lambda: read)


@dataclass(frozen=True)
class OnTop:
    """An update on top of earlier ones; every answer has a graph of its own, down to the update.

    Attributes:
        earlier: a constant.
        update: E = 1, of the same sites.
    """

    earlier: DeltaEdit
    update: DeltaEdit

    def answer(self, model: EditableModel, rows: Rows, state: PrefixState, at: Answers) -> Tensor:
        """Predicts answer tokens with both in place."""
        before = self.earlier.deltas
        both = {
            site: join_deltas(before[site], delta) if site in before else delta
            for site, delta in self.update.deltas.items()
        }
        return DeltaEdit(both).answer(model, rows, state, at)


def squared_norm(delta: Delta) -> Tensor:
    """The sum of the squares of a delta's numbers, with its graph; no matrix is made of factors."""
    if isinstance(delta, DenseDelta):
        return delta.weight.square().sum()
    grams = (side @ side.mT for side in (delta.inputs, delta.outputs))
    return torch.stack(list(grams)).prod(0).sum()


def _of_trajectory(steps: Sequence[OuterLoss]) -> OuterLoss:
    """The sum over a trajectory; terms are means over turns, each right after it is made."""
    of_terms: dict[str, list[Tensor]] = {}
    for step in steps:
        for name, value in step.terms.items():
            of_terms.setdefault(name, []).append(value)
    terms = {name: torch.stack(values).mean() for name, values in of_terms.items()}
    return OuterLoss(torch.stack([step.total for step in steps]).sum(), terms, {}, {})
