"""Training of MEND: edit with the current editor, judge the edited model, improve the editor.

One step over B independent edits costs one pass of the frozen layers for all rows, one short
backward for the edits' gradients, and one pass of the edited layers under per-row deltas.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torch.optim import Adam, Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from editors.base import Edit
from editors.mend.config import MendOptions
from editors.mend.editor import Mend, build
from editors.mend.objective import Objective, OuterLoss
from errors import ConfigError, ModelError
from lightning_modules import checkpoint as identity
from models.editable import EditableModel, PrefixState
from models.rows import EditBatch

WARMUP_STEPS = 20
COSINE_FLOOR = 0.05  # share of the rate that is left at the end
_HALF = ("16-true", "bf16-true")


class MendTraining(L.LightningModule):
    """Trains a MEND editor for a frozen base model.

    The base model is kept out of the module tree: it is in no checkpoint and no optimiser.

    Args:
        model: the base model.
        editor: the editor to train.
        objective: the outer loss.
        lr: Adam's rate for the networks.
        lr_of_edit_lr: Adam's rate for the step sizes, a parameter group of their own.
        lr_schedule: `constant`, or `cosine` with a short warm-up.
        options: the editor's options as plain Python, for the checkpoint.
    """

    def __init__(
        self,
        model: EditableModel,
        editor: Mend,
        objective: Objective,
        *,
        lr: float,
        lr_of_edit_lr: float,
        lr_schedule: str = "constant",
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self._base = (model,)  # a tuple hides the module from torch
        self.editor, self.objective = editor, objective
        self.lr, self.lr_of_edit_lr, self.lr_schedule = lr, lr_of_edit_lr, lr_schedule
        self.options = {"name": editor.name, **(options or {})}
        self.save_hyperparameters({"editor": self.options, "objective": objective.name})
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
        """The base model."""
        return self._base[0]

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

    def training_step(self, batch: EditBatch, batch_idx: int) -> Tensor:
        """Loss of one batch of edits."""
        self._since_step.append(batch)
        _, _, loss = self._edit_and_judge(batch)
        size = len(batch)
        self.log("train/loss", loss.total.detach(), prog_bar=True, batch_size=size)
        for name, value in loss.terms.items():
            self.log(f"train/{name}/loss", value.detach(), batch_size=size)
        return loss.total

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs gradient norm (before clipping) and step sizes; stops on a broken gradient.

        Raises:
            ModelError: the gradient is not finite.
        """
        norm = get_total_norm([p.grad for p in self.editor.parameters() if p.grad is not None])
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        if not scaled and not bool(norm.isfinite()):  # a scaler skips such steps by itself
            raise _broken("gradient", self._since_step)
        self._since_step.clear()
        self.log("train/grad_norm", norm)
        for site, value in zip(self.editor.sites, self.editor.edit_lr.detach(), strict=True):
            self.log(f"train/edit_lr/{site.layer}_{site.role}", value)

    def validation_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Judges the edits of one batch; nothing is learned, statistics stay as they are."""
        if not self.editor.ready and self.trainer.sanity_checking:
            return  # before the first step the editor has no input statistics
        state, edit, loss = self._edit_and_judge(batch)
        self._add("loss", loss.total, len(batch))
        self._add("reliability", self._reliability(batch, state, edit), len(batch))
        for term in self.objective.terms:
            rows = loss.rows.get(term.name, 0)
            self._add(f"{term.name}/loss", loss.terms.get(term.name, 0.0), rows)
            self._add(term.name, loss.accuracy.get(term.name, 0.0), rows)

    def on_validation_epoch_end(self) -> None:
        """Logs the means over all validation edits."""
        for key, metric in self.validation.items():
            if isinstance(metric, MeanMetric) and metric.update_called:
                value = metric.compute()
                if not bool(value.isnan()):  # a term that no validation edit has
                    self.log(f"val/{self._names[key]}", value, prog_bar=key == "loss")
            metric.reset()  # type: ignore[operator]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with two groups.

        Published code keeps the step sizes in both of its optimisers, and their own rate never
        takes effect; here it does.
        """
        networks = [p for name, p in self.editor.named_parameters() if name != "edit_lr"]
        optimizer = Adam(
            [
                {"params": networks, "lr": self.lr, "name": "networks"},
                {"params": [self.editor.edit_lr], "lr": self.lr_of_edit_lr, "name": "edit_lr"},
            ]
        )
        if self.lr_schedule == "constant":
            return optimizer
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = LambdaLR(optimizer, lambda step: cosine(step, steps))
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds which editor this is and which base model it belongs to."""
        identity.stamp(checkpoint, self.options, self.model)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuses a checkpoint of another editor or base model."""
        identity.check(checkpoint, self.editor.name, self.model)

    def load_state_dict(
        self,
        state_dict: Mapping[str, Any],
        strict: bool = False,
        assign: bool = False,
    ) -> torch.nn.modules.module._IncompatibleKeys:
        """Loads an editor; every key must be there and fit."""
        identity.load_state(self, state_dict)
        return torch.nn.modules.module._IncompatibleKeys([], [])

    def _edit_and_judge(self, batch: EditBatch) -> tuple[PrefixState, Edit, OuterLoss]:
        state = self.model.prefix(batch.rows, self.editor.first_layer(self.model))
        edit = self.editor.edit(self.model, batch, state)
        loss = self.objective(self.model, edit, batch, state)
        if not bool(loss.total.isfinite()):
            raise _broken("loss", [batch])
        return state, edit, loss

    def _reliability(self, batch: EditBatch, state: PrefixState, edit: Edit) -> Tensor:
        rows = batch.rows.select(batch.edit_rows)
        at = rows.answers()
        logits = edit.answer(self.model, rows, state.select(batch.edit_rows), at)
        return at.row_mean((logits.argmax(-1) == at.target).float()).mean()

    def _add(self, name: str, value: Tensor | float, weight: int) -> None:
        self.validation[_key(name)].update(value, weight)  # type: ignore[operator]


def build_training(options: MendOptions, model: EditableModel, objective: str) -> MendTraining:
    """The training that the options describe.

    Args:
        options: the editor's options.
        model: the base model.
        objective: `text` or `image_text`, where the options leave the choice to the scenario.
    """
    return MendTraining(
        model,
        build(options, model),
        Objective(options.objective or objective, options.weights.model_dump()),
        lr=options.lr,
        lr_of_edit_lr=options.lr_of_edit_lr,
        lr_schedule=options.lr_schedule,
        options=options.model_dump(mode="json"),
    )


def cosine(step: int, steps: int) -> float:
    """Share of the rate at an optimiser step: linear warm-up times a cosine down to 5 %."""
    warmup = min(WARMUP_STEPS, max(1, steps // 4))
    half_wave = 0.5 * (1 + math.cos(math.pi * min(step / max(1, steps), 1.0)))
    return min(1.0, (step + 1) / warmup) * (COSINE_FLOOR + (1 - COSINE_FLOOR) * half_wave)


def _key(name: str) -> str:
    return name.replace("/", "_")


def _broken(what: str, batches: Iterable[EditBatch]) -> ModelError:
    named = [
        f"{number} ({subject})"
        for batch in batches
        for number, subject in zip(batch.edit_ids, batch.subjects, strict=True)
    ]
    more = f" and {len(named) - 16} more" if len(named) > 16 else ""
    return ModelError(
        f"MEND's training {what} is not finite at the training records {', '.join(named[:16])}"
        f"{more}. Look at these records, or lower editor.lr and editor.edit_lr; the last good "
        "weights are in checkpoints/last.ckpt."
    )
