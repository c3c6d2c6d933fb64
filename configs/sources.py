"""The group `data` alone, for a command that needs no model and no editor."""

from collections.abc import Sequence

from configs.data_rules import data_rules
from configs.one_group import mistakes, one_group
from datamodules.source import DataOptions


def data_options(words: Sequence[str]) -> DataOptions:
    """A data source by configuration words, composed, typed and judged as everywhere.

    Args:
        words: `data=NAME` and keys of the group, `data.train=NAME` and its keys among them.

    Raises:
        ConfigError: all mistakes in one message.
    """
    data: DataOptions = one_group("data", words, example="data.root=FOLDER")
    command = "evaluate" if data.train is None else "train"
    if problems := list(data_rules(command, {"data": data})):
        raise mistakes(problems)
    return data
