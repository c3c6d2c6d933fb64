"""RLEdit: MALMEN's networks trained along whole sequences of updates (Li et al., 2025)."""

from editors.registry import Registration
from editors.rledit.config import RleditOptions

EDITOR = Registration(
    options=RleditOptions,
    method="editors.rledit.editor:build",
    training="lightning_modules.rledit:RleditTraining",
)
