"""The group `model` alone, for a command that needs nothing else of a configuration."""

from collections.abc import Sequence

from configs import schema
from configs.check import numbered, type_sections
from configs.overrides import check_words, compose_plain, group_options, hydra_ready
from configs.words import quote_words
from errors import ConfigError

_COMMAND = "evaluate"  # whose group it is; every command has the same
_PATHLESS = "auto"  # no model before it has a path


def every_model() -> list[schema.ModelOptions]:
    """The models of configs/model."""
    names = [name for name in group_options("model") if name != _PATHLESS]
    return [model_options([f"model={name}"]) for name in names]


def model_options(words: Sequence[str]) -> schema.ModelOptions:
    """A model by configuration words, composed and typed as everywhere.

    Rules about files are not applied: its folder need not be there.

    Args:
        words: `model=NAME` and keys of the group.

    Raises:
        ConfigError: all mistakes in one message.
    """
    words = quote_words(words)
    with hydra_ready():
        line = check_words(_COMMAND, words)
        problems = line.problems + [
            f"{key}: only model=NAME and keys of that group, such as model.path=FOLDER, mean "
            "something here"
            for key in (override.key_or_group for override in line.overrides)
            if key != "model" and not key.startswith("model.")
        ]
        if not problems and "model" not in line.keys:
            problems.append(f"choose a model: model is one of {', '.join(group_options('model'))}")
        if not problems:
            plain = {"model": compose_plain(_COMMAND, words).get("model")}
            others = set(schema.COMMANDS[_COMMAND].model_fields) - {"model"}
            sections, problems = type_sections(_COMMAND, plain, others)
    if problems:
        raise ConfigError(f"the command line has mistakes:{numbered(problems)}")
    options: schema.ModelOptions = sections["model"]
    return options
