"""FT: fine-tuning of some matrices on the edit alone, or on many edits together."""

from editors.ft.config import FtOptions
from editors.registry import Registration

EDITOR = Registration(options=FtOptions, method="editors.ft.editor:build")
