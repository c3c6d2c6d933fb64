"""Training of MALMEN: one step makes one update of many edits, and judges all of them under it.

    tokens     keys and value gradients of the edits, `batch_size` edits at a time, without a graph
    update     the networks on `net_batch` tokens at a time, without a graph; least squares
    judge      the outer loss under the update, `batch_size` edits at a time
    learn      the networks again, with a graph (`lightning_modules.decoupled`)

The gradient is that of one graph through everything. Input statistics take all tokens of a step, of
every process, before a network sees any of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import ClassVar

import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from datamodules.order import rank_and_world
from editors.base import Edit, EditorInputs
from editors.gradients import turn_tokens
from editors.malmen.config import MalmenOptions
from editors.malmen.editor import Malmen
from editors.objective import Objective, OuterLoss
from editors.registry import build_editor
from editors.turn import Turn
from errors import ModelError
from lightning_modules.decoupled import DecoupledUpdate, with_gradients
from lightning_modules.editor_training import EditorTraining
from models.editable import EditableModel, PrefixState
from models.parts import of_rows, split_edits
from models.rows import EditBatch
from models.stored_states import stored_prefix

Collect = Callable[[Tensor], None]


class MalmenTraining(EditorTraining):
    """Trains a MALMEN editor for a frozen base model."""

    reads_features: ClassVar[bool] = False
    takes_parts: ClassVar[bool] = True
    options: MalmenOptions
    editor: Malmen

    def __init__(
        self,
        options: MalmenOptions,
        model: EditableModel,
        inputs: EditorInputs,
        objective: Objective,
    ) -> None:
        super().__init__(options, model, build_editor(options, model, inputs), objective)

    @property
    def ready(self) -> bool:
        """Before the first step the editor has no input statistics."""
        return self.editor.ready

    def training_step(self, batch: EditBatch, batch_idx: int) -> Tensor:
        """Loss of one update; its backward pass gives the gradients that are found here."""
        self._since_step.append(batch)
        parts = split_edits(batch, self.options.batch_size)
        update = self.make_update(parts)
        loss = self.judge_parts(update.edit, parts, lambda part: update.collect(part, self.scale))
        self.log_loss(loss, len(batch))
        return with_gradients(loss.total, self.editor, update.gradients())

    def validation_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Judges one update of a batch's edits, made by this process alone; nothing is learned."""
        if not self.ready and self.trainer.sanity_checking:
            return
        parts = split_edits(batch, self.options.batch_size)
        edit = self.editor.edit_together(self.model, self.turn(parts))
        self.measure_loss(self.judge_parts(edit, parts), len(batch))
        for part in parts:
            state, part = self._entered(part, part.edit_rows.sort().values)
            self.measure("reliability", self._reliability(under_one(part), state, edit), len(part))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs step sizes and ridges besides."""
        super().on_before_optimizer_step(optimizer)
        editor = self.editor
        for number, site in enumerate(editor.sites):
            name = f"{site.layer}_{site.role}"
            self.log(f"train/edit_lr/{name}", editor.edit_lr.detach()[number])
            self.log(f"train/ridge/{name}", editor.log_ridge.detach()[number].exp())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with three groups: networks, step sizes, ridges."""
        chosen, editor = self.options, self.editor
        rates = {
            "networks": (list(editor.networks.parameters()), chosen.lr),
            "edit_lr": ([editor.edit_lr], chosen.lr_of_edit_lr),
            "ridge": ([editor.log_ridge], chosen.lr_of_ridge),
        }
        groups = [{"params": of, "lr": lr, "name": name} for name, (of, lr) in rates.items()]
        return self.scheduled(self.adam(groups))

    @property
    def scale(self) -> float:
        """What losses are multiplied by on their way back: as the trainer does in float16."""
        scaler = getattr(self.trainer.precision_plugin, "scaler", None)
        return 1.0 if scaler is None else float(scaler.get_scale())

    def make_update(self, parts: Sequence[EditBatch]) -> DecoupledUpdate:
        """One update of the edits of some batches, and of those of the other processes."""
        return self.update_of(self.turn(parts))

    def update_of(self, turn: Turn) -> DecoupledUpdate:
        """The same of a turn, on the model with what is in place."""
        editor = self.editor
        tokens = turn_tokens(editor.name, self.model, editor.sites, turn)
        editor.check_room(self.model, tokens, len(turn), processes=rank_and_world()[1])
        editor.observe(tokens)
        if not editor.ready:
            raise ModelError(
                f"The first update of {editor.name.upper()}'s training has one answer token, and "
                "the deviations that its networks normalise by need two: give editor.n_edits=2 or "
                "more."
            )
        return DecoupledUpdate(editor, tokens)

    def turn(self, parts: Sequence[EditBatch]) -> Turn:
        """The edits of some batches, to be made in one update."""

        def read() -> Iterable[tuple[EditBatch, PrefixState]]:
            for part in parts:
                taught = part.teaching().to(self.model.device)
                yield taught, self._prefix(taught)

        return Turn(sum(map(len, parts)), read)

    def judge_parts(
        self, edit: Edit, parts: Sequence[EditBatch], collect: Collect | None = None
    ) -> OuterLoss:
        """The outer loss of all edits of some batches under one update.

        Args:
            edit: the update.
            parts: batches.
            collect: gets what each batch adds to the loss, with its graph; None: there is none.

        Returns:
            Their sums, and their shares of right answers together; without a graph.

        Raises:
            ModelError: the loss is not finite.
        """
        asking = [part for part in parts if len(self.objective.asked(part))]
        counts = self.objective.counts(parts, synced=self.training)
        counts = {name: count.to(self.model.device) for name, count in counts.items()}
        losses = []
        for part in asking:
            state, part = self._entered(part, self.objective.asked(part))
            loss = self.objective(self.model, edit, under_one(part), state, counts=counts)
            if not bool(loss.total.isfinite()):
                self._check_base(part, state)
                raise self._broken("loss", parts)
            if collect is not None:
                collect(loss.total)
            losses.append(loss)
        # Of a turn of few edits later ones may contradict every probe.
        return OuterLoss.of_parts(losses) if losses else self.objective.nothing(counts)

    def _entered(self, part: EditBatch, rows: Tensor) -> tuple[PrefixState, EditBatch]:
        """Some rows of a batch, behind the state that they enter with."""
        part = of_rows(part, rows).to(self.model.device)
        return self._prefix(part), part

    def _prefix(self, batch: EditBatch) -> PrefixState:
        return stored_prefix(self.model, batch.rows, self.editor.first_layer(self.model))


def under_one(batch: EditBatch) -> EditBatch:
    """A batch whose rows are all answered under edit 0, which several edits together are."""
    under = torch.zeros_like(batch.rows.edit_index)
    return replace(batch, rows=replace(batch.rows, edit_index=under))
