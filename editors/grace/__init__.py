"""GRACE: a codebook of activations and values beside one layer (Hartvigsen et al., 2023)."""

from editors.grace.config import GraceOptions
from editors.registry import Registration

EDITOR = Registration(options=GraceOptions, method="editors.grace.editor:build")
