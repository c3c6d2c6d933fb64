"""ROME: rank-one model editing (Meng et al., 2022)."""

from editors.registry import Registration
from editors.rome.config import RomeOptions

EDITOR = Registration(options=RomeOptions, method="editors.rome.editor:build")
