"""IKE: in-context knowledge editing (Zheng et al., 2023)."""

from editors.ike.config import IkeOptions
from editors.registry import Registration

EDITOR = Registration(options=IkeOptions, method="editors.ike.editor:build")
