"""MALMEN: many edits in one learned least-squares update (Tan et al., 2024)."""

from editors.malmen.config import MalmenOptions
from editors.registry import Registration

EDITOR = Registration(
    options=MalmenOptions,
    method="editors.malmen.editor:build",
    training="lightning_modules.malmen:MalmenTraining",
)
