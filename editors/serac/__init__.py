"""SERAC: a memory, a scope classifier and a counterfactual model (Mitchell et al., 2022)."""

from editors.registry import Registration
from editors.serac.config import SeracOptions

EDITOR = Registration(
    options=SeracOptions,
    method="editors.serac.editor:build",
    training="lightning_modules.serac:SeracTraining",
)
