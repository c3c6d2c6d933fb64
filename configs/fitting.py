"""Which experiment has the settings that fit a model, and what is said where none was chosen.

The files of configs/editor have the settings of models of 7B parameters, as published.
"""

from collections.abc import Collection

from configs import schema
from configs.model_folder import BUILT
from configs.overrides import group_options
from editors.options import EditorOptions


def fitting_experiment(model: str) -> str | None:
    """The experiment for a model of this name; None where the published settings are for it."""
    if model.endswith("_tiny"):
        return "demo"
    return "smollm" if model.startswith(BUILT) else None


def settings_warnings(config: schema.CommandConfig, typed: Collection[str]) -> list[str]:
    """A sentence where settings for large models meet a tiny one because nothing else was typed."""
    editor: EditorOptions | None = getattr(config, "editor", None)
    if editor is None or config.ckpt is not None or not config.model.name.endswith("_tiny"):
        return []
    if any(key == "experiment" or key.startswith("editor.") for key in typed):
        return []
    if f"demo_{editor.label}" not in group_options("editor/experiment"):
        return []
    return [
        f"editor={editor.label} has settings for models of 7B parameters, and "
        f"model={config.model.name} is a tiny one: experiment=demo has settings for it"
    ]
