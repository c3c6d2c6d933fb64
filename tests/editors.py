"""Editors by the values of their YAML files with some of them changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from torch import Tensor

from configs.check import load_config
from datamodules.prompt_encoder import PromptEncoder
from editors.ft.config import FtOptions
from editors.ft.editor import FineTune
from editors.grace.editor import Grace
from editors.ike.editor import Ike
from editors.lora.editor import Lora
from editors.memit.editor import Memit
from editors.mend.editor import Mend
from editors.registry import registration
from editors.rome.editor import Rome
from errors import ConfigError
from models.editable import EditableModel

FOLDER = Path(__file__).parents[1] / "configs" / "editor"


def editor_options(file: str, /, **changed: Any) -> Any:
    """The options of configs/editor/FILE.yaml; of a section, such as `scope`, some keys change."""
    values = yaml.safe_load((FOLDER / f"{file}.yaml").read_text(encoding="utf-8"))
    options = registration(values["name"]).options
    return options.model_validate(_merged(values, changed))


def loaded(editor: str, *words: str) -> Any:
    """The settings of the demo's command for an editor, with some words behind it."""
    command = "train" if registration(editor).options.trained else "evaluate"
    return load_config(command, [f"editor={editor}", "experiment=demo", *words])


def refusal(editor: str, word: str) -> str:
    """What is said of a word that is the one mistake of the demo's command for an editor."""
    with pytest.raises(ConfigError, match="one mistake") as error:
        loaded(editor, word)
    return str(error.value)


def fine_tune(*, weight_decay: float | None = None, **changed: Any) -> FineTune:
    """FT on Adam that takes all its steps; another `weight_decay` than its optimiser's default."""
    options = editor_options("ft_as_run", **{"optimizer": "adam"} | changed)
    if weight_decay is not None:

        class Decaying(FtOptions):
            @property
            def weight_decay(self) -> float:
                return decay

        decay = weight_decay
        options = Decaying.model_validate(options.model_dump())
    return FineTune(options)


def lora(**changed: Any) -> Lora:
    """LoRA that takes all its steps."""
    return Lora(editor_options("lora", **{"stop_loss": None, "stop_when_argmax": False} | changed))


def grace(**changed: Any) -> Grace:
    """GRACE that takes all its steps."""
    every_step = {"stop_loss": None, "stop_when_argmax": False}
    return Grace(editor_options("grace", **every_step | changed))


def mend(model: EditableModel, **changed: Any) -> Mend:
    return Mend(editor_options("mend", **changed), model)


def rome(
    encoder: PromptEncoder,
    prefixes: Sequence[str] = (),
    second_moment: Tensor | None = None,
    **changed: Any,
) -> Rome:
    return Rome(editor_options("rome", **changed), encoder, prefixes, second_moment)


def memit(
    encoder: PromptEncoder,
    prefixes: Sequence[str] = (),
    second_moments: Mapping[int, Tensor] | None = None,
    **changed: Any,
) -> Memit:
    return Memit(editor_options("memit", **changed), encoder, prefixes, second_moments)


def ike(encoder: PromptEncoder, retriever: Any, *, sentences: Any = None, **changed: Any) -> Ike:
    return Ike(editor_options("ike", **changed), encoder, retriever, sentences)


def _merged(values: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """A change of a section leaves its other keys as they are."""
    sections = {
        key: _merged(values[key], change)
        for key, change in changed.items()
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping)
    }
    return {**values, **changed, **sections}
