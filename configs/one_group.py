"""One group alone, for a command that needs nothing else of a configuration."""

from collections.abc import Sequence
from typing import Any

from configs import schema
from configs.check import numbered, type_sections
from configs.composing import compose_plain, hydra_ready
from configs.overrides import check_words, group_options, typed_key
from configs.words import quote_words
from errors import ConfigError

_COMMAND = "evaluate"  # whose group it is; every command has the same


def one_group(group: str, words: Sequence[str], *, example: str) -> Any:
    """The options of a group by configuration words, composed and typed as everywhere.

    Rules about files and between groups are not applied.

    Args:
        group: its name.
        words: `group=NAME` and keys of the group.
        example: a word that sets a key of it, for messages.

    Raises:
        ConfigError: all mistakes in one message.
    """
    words = quote_words(words)
    with hydra_ready():
        line = check_words(_COMMAND, words)
        problems = line.problems + [
            f"{key}: only {group}=NAME and keys of that group, such as {example}, mean something "
            "here"
            for key in map(typed_key, line.overrides)
            if key != group and not key.startswith(f"{group}.")
        ]
        if not problems and group not in line.keys:
            options = ", ".join(group_options(group))
            problems.append(f"choose {_CHOICES[group]}: {group} is one of {options}")
        if not problems:
            plain = {group: compose_plain(_COMMAND, words).get(group)}
            others = set(schema.COMMANDS[_COMMAND].model_fields) - {group}
            sections, problems = type_sections(_COMMAND, plain, others)
    if problems:
        raise mistakes(problems)
    return sections[group]


def mistakes(problems: Sequence[str]) -> ConfigError:
    """The error of a command line, with all its mistakes."""
    return ConfigError(f"the command line has mistakes:{numbered(problems)}")


_CHOICES = {"model": "a model", "data": "the data"}
