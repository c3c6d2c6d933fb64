"""What the training of every learned editor has in common.

One step over B independent edits: the frozen layers run once for all rows, the current editor makes
its edits, an outer loss judges the edited model, the editor moves. The base model is kept out of
the module tree: it is in no checkpoint, in no optimiser and not wrapped by DDP.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import lightning as L
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from editors import checkpoint as identity
from editors.base import Edit, state_for
from editors.objective import Objective, OuterLoss
from editors.options import TrainedEditorOptions
from errors import ConfigError, ModelError
from lightning_modules.checkpoints import continue_from
from lightning_modules.finite import FiniteCheck
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch
from models.stored_states import stored_prefix

WARMUP_STEPS = 20
COSINE_FLOOR = 0.05  # share of the rate that is left at the end
_HALF = ("16-true", "bf16-true")


class EditorTraining(L.LightningModule):
    """Trains an editor for a frozen base model; subclasses build it and say with which optimiser.

    Args:
        options: the editor's options; checkpoints hold them.
        editor: the editor to train: a module that follows `editors.base.Editor`.

    Attributes:
        reads_features: whether the editor itself looks at the features of pictures. Where it does
            not, a picture whose prefix is in the cache never enters the vision tower.
        takes_parts: whether a training brings its batches to the device by itself, part by part.
    """

    reads_features: ClassVar[bool] = True
    takes_parts: ClassVar[bool] = False

    def __init__(
        self,
        options: TrainedEditorOptions,
        model: EditableModel,
        editor: Any,  # a module and an Editor, which Python's types cannot say
        objective: Objective,
    ) -> None:
        super().__init__()
        self._base = (model,)  # a tuple hides the module from torch
        self.options, self.editor, self.objective = options, editor, objective
        self.save_hyperparameters(
            {"editor": options.model_dump(mode="json"), "objective": objective.name}
        )
        self.strict_loading = False  # load_state_dict below checks by itself, with a clear message
        self._since_step: list[EditBatch] = []
        names = ["loss", "reliability", *(f"{term.name}/loss" for term in objective.terms)]
        names += [term.name for term in objective.terms]
        self.validation = nn.ModuleDict(
            {_key(name): MeanMetric(nan_strategy="error") for name in names}
        )
        self._names = {_key(name): name for name in names}

    @property
    def model(self) -> EditableModel:
        return self._base[0]

    @property
    def ready(self) -> bool:
        """Whether the editor can make edits yet; validation waits for it."""
        return True

    def setup(self, stage: str) -> None:
        """Brings the base model to the device, since Lightning does not know of it.

        Raises:
            ConfigError: the editor would be kept in half precision.
        """
        self.model.to(self.trainer.strategy.root_device)
        if self.trainer.precision in _HALF:
            raise ConfigError(
                f"trainer.precision={self.trainer.precision} would keep the editor's weights in "
                "half precision, where steps of its learning rate vanish. Use 32-true, bf16-mixed "
                "or 16-mixed; the base model's own type is model.dtype."
            )

    def on_fit_start(self) -> None:
        """Training mode for all parts: Lightning leaves each in the one that it was made in."""
        self.train()

    def training_step(self, batch: EditBatch, batch_idx: int) -> Tensor:
        """Loss of one batch of edits."""
        self._since_step.append(batch)
        _, _, loss = self.edit_and_judge(batch)
        self.log_loss(loss, len(batch))
        return loss.total

    def log_loss(self, loss: OuterLoss, size: int) -> None:
        """Logs the loss of a training batch of so many edits."""
        parallel = self.trainer.world_size > 1
        self.log(
            "train/loss", loss.total.detach(), prog_bar=True, batch_size=size, sync_dist=parallel
        )
        for name, value in loss.terms.items():
            self.log(f"train/{name}/loss", value.detach(), batch_size=size, sync_dist=parallel)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs the gradient's norm before clipping; stops on a broken gradient.

        Raises:
            ModelError: the gradient is not finite.
        """
        norm = get_total_norm([p.grad for p in self.editor.parameters() if p.grad is not None])
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not scaled and not bool(norm.isfinite()):  # a scaler skips such steps by itself
            raise self._broken("gradient", self._since_step)
        self._since_step.clear()
        self.log("train/grad_norm", norm)

    def validation_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Judges the edits of one batch; nothing is learned."""
        if not self.ready and self.trainer.sanity_checking:
            return
        batch = self._with_features(batch)  # once for both answers
        state, edit, loss = self.edit_and_judge(batch)
        self.measure("reliability", self._reliability(batch, state, edit), len(batch))
        self.measure_loss(loss, len(batch))

    def measure_loss(self, loss: OuterLoss, size: int) -> None:
        """Adds the loss of so many edits to the means over the validation edits."""
        self.measure("loss", loss.total, size)
        for term in self.objective.terms:
            rows = loss.rows.get(term.name, 0)
            self.measure(f"{term.name}/loss", loss.terms.get(term.name, 0.0), rows)
            self.measure(term.name, loss.accuracy.get(term.name, 0.0), rows)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all validation edits, of all processes."""
        for key, metric in self.validation.items():
            if isinstance(metric, MeanMetric) and metric.update_called:
                value = metric.compute()
                if not bool(value.isnan()):  # a term that no validation edit has
                    self.log(
                        f"val/{self._names[key]}", value, prog_bar=key == "loss", sync_dist=True
                    )
            metric.reset()  # type: ignore[operator]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds which editor this is and which base model it belongs to."""
        identity.stamp(checkpoint, self.options.model_dump(mode="json"), self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another editor or base model."""
        identity.check(checkpoint, self.editor.name, self.model)
        continue_from(checkpoint, self.trainer)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = False,
        assign: bool = False,
    ) -> torch.nn.modules.module._IncompatibleKeys:
        """Loads an editor; every key must be there and fit."""
        identity.load_state(self, state_dict)
        return torch.nn.modules.module._IncompatibleKeys([], [])

    def edit_and_judge(self, batch: EditBatch) -> tuple[PrefixState, Edit, OuterLoss]:
        """The base model's state for all rows, the edits, and what they are worth.

        Raises:
            ModelError: the loss is not finite.
        """
        batch = self._with_features(batch)
        state = stored_prefix(self.model, batch.rows, self.editor.first_layer(self.model))
        state = state_for(self.editor, state)
        edit = self.editor.edit(self.model, batch, state)
        loss = self.judge(batch, state, edit)
        if not bool(loss.total.isfinite()):
            self._check_base(batch, state)
            raise self._broken("loss", [batch])
        return state, edit, loss

    def judge(self, batch: EditBatch, state: PrefixState, edit: Edit) -> OuterLoss:
        """The outer loss of the edits; in training over the rows of all processes."""
        return self.objective(self.model, edit, batch, state, synced=self.training)

    def measure(self, name: str, value: Tensor | float, weight: int) -> None:
        """Adds to a mean over the validation edits."""
        self.validation[_key(name)].update(value, weight)  # type: ignore[operator]

    def adam(self, groups: Sequence[Mapping[str, Any]]) -> Adam:
        """Adam of some groups of parameters, a step in one pass over their memory.

        Not under mixed precision: there Lightning clips no gradients that a fused step might
        unscale itself.
        """
        mixed = isinstance(self.trainer.precision_plugin, MixedPrecision)
        return Adam([dict(group) for group in groups], fused=not mixed)

    def scheduled(self, optimizer: Optimizer) -> OptimizerLRScheduler:
        """The optimiser, under the schedule of the options."""
        if self.options.lr_schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = min(WARMUP_STEPS, max(1, steps // 4))
        scheduler = LambdaLR(
            optimizer, lambda step: cosine(step, steps, warmup=warmup, floor=COSINE_FLOOR)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _with_features(self, batch: EditBatch) -> EditBatch:
        if not self.reads_features:
            return batch
        return replace(batch, rows=self.model.encode_pictures(batch.rows))

    def _reliability(self, batch: EditBatch, state: PrefixState, edit: Edit) -> Tensor:
        rows = batch.rows.select(batch.edit_rows)
        at = rows.answers()
        logits = edit.answer(self.model, rows, state.select(batch.edit_rows), at)
        return at.row_mean((logits.argmax(-1) == at.target).float()).mean()

    @torch.no_grad()
    def _check_base(self, batch: EditBatch, state: PrefixState) -> None:
        """Refuses a base model whose own logits are no numbers: no rate of a training mends it."""
        at = batch.rows.answers()
        best = self.model.suffix(state, at=at).amax(-1)
        FiniteCheck(batch, self.model, self.editor.name).unedited(best, at.row)

    def _broken(self, what: str, batches: Iterable[EditBatch]) -> ModelError:
        named = [
            f"{number} ({subject})"
            for batch in batches
            for number, subject in zip(batch.edit_ids, batch.subjects, strict=True)
        ]
        more = f" and {len(named) - 16} more" if len(named) > 16 else ""
        return ModelError(
            f"{self.editor.name.upper()}'s training {what} is not finite at the training records "
            f"{', '.join(named[:16])}{more}. Look at these records, or lower editor.lr and other "
            "rates; the last good weights are in checkpoints/last.ckpt."
        )


def cosine(step: int, steps: int, *, warmup: int, floor: float, start: int = 0) -> float:
    """Share of a rate at an optimiser step: linear warm-up times a cosine over the whole training.

    transformers' schedules have other numbers: there the cosine begins after the warm-up.

    Args:
        step: counted from 0.
        steps: of the whole training.
        warmup: steps of the warm-up.
        floor: share that is left at the end.
        start: step at which the warm-up begins.
    """
    warm = min(1.0, max(0.0, (step - start + 1) / warmup))
    half_wave = 0.5 * (1 + math.cos(math.pi * min(1.0, step / max(1, steps))))
    return warm * (floor + (1 - floor) * half_wave)


def _key(name: str) -> str:
    return name.replace("/", "_")
