"""None: the unedited model, the row that every table begins with."""

from editors.none.config import NoneOptions
from editors.registry import Registration

EDITOR = Registration(options=NoneOptions, method="editors.none.editor:build")
