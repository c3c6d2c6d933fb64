"""RLEdit (Li et al., Reinforced Lifelong Editing for Language Models, arXiv 2502.05759).

The editor is MALMEN's: networks that say what each answer token asks for, and ridge least squares.
What differs is its training, along sequences of updates that stay in place
(`lightning_modules.rledit`), so that the networks know the gradients of a model that is edited
already. An update knows nothing of earlier ones but the model that they have left.
"""

from __future__ import annotations

from editors.base import EditorInputs
from editors.malmen.editor import Malmen
from editors.rledit.config import RleditOptions
from models.editable import EditableModel


class Rledit(Malmen):
    """MALMEN's editor, under the name of its training."""

    name = "rledit"


def build(options: RleditOptions, model: EditableModel, inputs: EditorInputs) -> Rledit:
    """The untrained editor that the options describe, on the model's device."""
    return Rledit(options, model).to(model.device)
