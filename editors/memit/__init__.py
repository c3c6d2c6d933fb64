"""MEMIT (Meng et al., 2023) and AlphaEdit (Fang et al., 2025): facts spread over some layers."""

from editors.memit.config import MemitOptions
from editors.registry import Registration

EDITOR = Registration(options=MemitOptions, method="editors.memit.editor:build")
