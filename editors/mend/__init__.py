"""MEND: learned transformation of gradient factors (Mitchell et al., 2022)."""

from editors.mend.config import MendOptions
from editors.registry import Registration

EDITOR = Registration(
    options=MendOptions,
    method="editors.mend.editor:build",
    training="lightning_modules.mend:MendTraining",
)
