"""FT: fine-tuning of the last layer on the edit alone."""

from editors.ft.config import FtOptions
from editors.registry import Registration

EDITOR = Registration(options=FtOptions, method="editors.ft.editor:build")
