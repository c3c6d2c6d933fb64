"""Edit one fact and talk to the model: the public Python interface (docs/python.md).

    from editing import open_editor, open_model

    model = open_model("llava_tiny")
    editor = open_editor("ft", model)
    edit = editor.edit("Who founded Daven Labs?", "Nigo Vegas", subject="Daven Labs")
    print(edit.ask("By whom was Daven Labs founded?"))

It is the engine of the evaluation, one row wide. torch loads with the first call.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from editing.editor import open_editor
    from editing.folder import load_edit
    from editing.model import open_model

__all__ = ["load_edit", "open_editor", "open_model"]
_MODULES = {
    "load_edit": "editing.folder",
    "open_editor": "editing.editor",
    "open_model": "editing.model",
}


def __getattr__(name: str) -> Any:
    """A public name, from the module that has it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'editing' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
