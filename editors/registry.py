"""Where an editor is found: `EDITOR = Registration(...)` in `editors/<name>/__init__.py`.

Nothing else lists the editors, so a new one touches no shared file. A registration loads no torch:
it holds the option class, and only names the code of the method and of its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any, cast

from editors.options import EditorOptions
from errors import ConfigError

if TYPE_CHECKING:
    from editors.base import Editor, EditorInputs
    from models.editable import EditableModel

_FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Registration:
    """An editor, in three references.

    Attributes:
        options: says which keys `configs/editor/<name>.yaml` may have.
        method: `module:name` of what makes an `editors.base.Editor` of (options, model, inputs).
        training: `module:name` of what makes a LightningModule of (options, model, inputs,
            objective); None for an editor that has nothing to train.
    """

    options: type[EditorOptions]
    method: str
    training: str | None = None


def editor_names() -> list[str]:
    """Names of the editors that this checkout has, sorted."""
    return sorted(path.parent.name for path in _FOLDER.glob("*/__init__.py"))


def registration(name: str) -> Registration:
    """Finds an editor.

    Raises:
        ConfigError: there is no such folder, or nothing is registered in it.
    """
    if name not in editor_names():
        raise ConfigError(
            f"editor.name is {name!r}, but there is no editors/{name}/__init__.py; "
            f"the editors here are {', '.join(editor_names())}."
        )
    registered = getattr(import_module(f"editors.{name}"), "EDITOR", None)
    if not isinstance(registered, Registration):
        raise ConfigError(
            f"editors/{name}/__init__.py registers no editor; it must say EDITOR = "
            "Registration(options=..., method=...), as editors/none/__init__.py does."
        )
    return registered


def with_current_names(options: Mapping[str, Any]) -> dict[str, Any]:
    """Stored options of an editor, by the keys that it has now."""
    name = str(options.get("name"))
    if name not in editor_names():
        return dict(options)
    known = registration(name).options
    current = {known.renamed.get(key, key): value for key, value in options.items()}
    for key, value in known.added.items():
        section, _, option = key.rpartition(".")
        if not section:
            current.setdefault(option, value)
        elif isinstance(of_section := current.get(section), Mapping):
            current[section] = {option: value, **of_section}
    return current


def build_editor(options: EditorOptions, model: EditableModel, inputs: EditorInputs) -> Editor:
    """The editor that the options describe; a learned one is untrained."""
    return cast("Editor", resolve_name(registration(options.name).method)(options, model, inputs))


def training_class(options: EditorOptions) -> Any:
    """What trains a learned editor: (options, model, inputs, objective) -> LightningModule."""
    return resolve_name(str(registration(options.name).training))
