"""The group `model` alone, for a command that needs nothing else of a configuration."""

from collections.abc import Sequence

from configs.one_group import one_group
from configs.overrides import group_options
from configs.schema import ModelOptions

_PATHLESS = "auto"  # no model before it has a path


def every_model() -> list[ModelOptions]:
    """The models of configs/model."""
    names = [name for name in group_options("model") if name != _PATHLESS]
    return [model_options([f"model={name}"]) for name in names]


def model_options(words: Sequence[str]) -> ModelOptions:
    """A model by configuration words, composed and typed as everywhere.

    Rules about files are not applied: its folder need not be there.

    Args:
        words: `model=NAME` and keys of the group.

    Raises:
        ConfigError: all mistakes in one message.
    """
    options: ModelOptions = one_group("model", words, example="model.path=FOLDER")
    return options
