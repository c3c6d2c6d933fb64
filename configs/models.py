"""The group `model` alone, for a command that needs nothing else of a configuration."""

from collections.abc import Sequence

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from configs import schema
from configs.check import validate
from configs.overrides import compose_plain, first_words, group_options, hydra_ready, judge
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
    options, problems = None, []
    with hydra_ready():
        judged = judge(_COMMAND, words)
        keys = [override.key_or_group for override in judged.good]
        problems += judged.problems
        problems += [
            f"{key}: only model=NAME and keys of that group, such as model.path=FOLDER, mean "
            "something here"
            for key in keys
            if key != "model" and not key.startswith("model.")
        ]
        if not problems and "model" not in keys:
            problems.append(f"choose a model: model is one of {', '.join(group_options('model'))}")
        if not problems:
            options, problems = _typed(words)
    if options is None:
        listed = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, 1))
        raise ConfigError(f"the command line has mistakes:{listed}")
    return options


def _typed(words: Sequence[str]) -> tuple[schema.ModelOptions | None, list[str]]:
    try:
        plain = {"model": compose_plain(_COMMAND, list(words)).get("model")}
    except (HydraException, OmegaConfBaseException) as error:
        return None, [first_words(error)]
    others = set(schema.COMMANDS[_COMMAND].model_fields) - {"model"}
    sections, problems = validate(_COMMAND, plain, others)
    return sections.get("model"), problems
