"""Every editor is found by its one registration, and what that names is there."""

import inspect
from pathlib import Path
from pkgutil import resolve_name
from typing import get_type_hints

import pytest

from editors import registry
from editors.base import AsksLonger, EditsTogether
from editors.options import TrainedEditorOptions
from editors.registry import editor_names, registration
from errors import ConfigError
from lightning_modules.editor_training import EditorTraining


@pytest.mark.parametrize("name", editor_names())
def test_a_registration_names_what_is_there(name: str) -> None:
    editor = registration(name)
    assert editor.options.model_fields["name"].annotation.__args__ == (name,)  # type: ignore[union-attr]
    assert list(inspect.signature(resolve_name(editor.method)).parameters) == [
        "options", "model", "inputs",
    ]  # fmt: skip
    assert editor.options.trained == issubclass(editor.options, TrainedEditorOptions)
    assert editor.options.trained == (editor.training is not None)
    if editor.training is not None:
        training = resolve_name(editor.training)
        assert issubclass(training, EditorTraining)
        assert list(inspect.signature(training).parameters) == [
            "options", "model", "inputs", "objective",
        ]  # fmt: skip


@pytest.mark.parametrize("name", editor_names())
def test_options_say_what_the_edits_can(name: str) -> None:
    method = get_type_hints(resolve_name(registration(name).method))["return"]
    assert method.name == name
    edit = get_type_hints(method.edit)["return"]
    lasting = hasattr(edit, "after") and hasattr(edit, "in_place")
    assert registration(name).options.sequential == lasting
    assert registration(name).options.together == issubclass(method, EditsTogether)
    assert registration(name).options.asks_longer == issubclass(method, AsksLonger)


def test_an_unknown_editor_is_named() -> None:
    with pytest.raises(ConfigError, match=r"editors/nope/__init__\.py.*mend"):
        registration("nope")


def test_a_folder_without_a_registration_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "silent").mkdir()
    (tmp_path / "silent" / "__init__.py").write_text("")
    monkeypatch.setattr(registry, "_FOLDER", tmp_path)
    monkeypatch.setattr("editors.__path__", [str(tmp_path)])
    with pytest.raises(ConfigError, match=r"editors/silent/__init__\.py registers no editor"):
        registration("silent")
