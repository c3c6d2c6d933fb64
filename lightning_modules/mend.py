"""Training of MEND: edit with the current editor, judge the edited model, improve the editor.

One step over B independent edits costs one pass of the frozen layers for all rows, one short
backward for the edits' gradients, and one pass of the edited layers under per-row deltas.
"""

from __future__ import annotations

from typing import ClassVar

from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch.optim import Optimizer

from editors.base import EditorInputs
from editors.mend.config import MendOptions
from editors.mend.editor import Mend, build
from editors.objective import Objective
from lightning_modules.editor_training import EditorTraining
from models.editable import EditableModel


class MendTraining(EditorTraining):
    """Trains a MEND editor for a frozen base model."""

    reads_features: ClassVar[bool] = False
    options: MendOptions
    editor: Mend

    def __init__(
        self,
        options: MendOptions,
        model: EditableModel,
        inputs: EditorInputs,
        objective: Objective,
    ) -> None:
        super().__init__(options, model, build(options, model, inputs), objective)

    @property
    def ready(self) -> bool:
        """Before the first step the editor has no input statistics."""
        return self.editor.ready

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Logs the step sizes besides."""
        super().on_before_optimizer_step(optimizer)
        for site, value in zip(self.editor.sites, self.editor.edit_lr.detach(), strict=True):
            self.log(f"train/edit_lr/{site.layer}_{site.role}", value)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam with two groups.

        Published code keeps the step sizes in both of its optimisers, and their own rate never
        takes effect; here it does.
        """
        networks = [p for name, p in self.editor.named_parameters() if name != "edit_lr"]
        optimizer = self.adam(
            [
                {"params": networks, "lr": self.options.lr, "name": "networks"},
                {
                    "params": [self.editor.edit_lr],
                    "lr": self.options.lr_of_edit_lr,
                    "name": "edit_lr",
                },
            ]
        )
        return self.scheduled(optimizer)
