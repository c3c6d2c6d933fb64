"""UltraEdit: normalised keys and gradients, and least squares (Gu et al., 2025)."""

from editors.registry import Registration
from editors.ultraedit.config import UltraEditOptions

EDITOR = Registration(options=UltraEditOptions, method="editors.ultraedit.editor:build")
