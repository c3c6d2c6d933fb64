"""Hydra's composition of words into one configuration, done once for the same choices.

    composed = options of the groups that the words choose, one over the other, under their values

Nothing here imports torch.
"""

import copy
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from configs.words import without_tildes
from errors import ConfigError

CONFIG_DIR = Path(__file__).resolve().parent


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Makes `compose` find the YAML files of this folder, from any working directory.

    A command that Hydra runs may use it too, as pretraining does to judge what it taught.
    """
    running = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_DIR)):
            yield
    finally:
        GlobalHydra.instance().hydra = running


def compose_plain(command: str, words: list[str]) -> dict[str, Any]:
    """Composes a command's configuration from words without sweeps; needs `hydra_ready`.

    Returns:
        Nested plain Python; a required value that is missing is the string '???'.

    Raises:
        ConfigError: Hydra cannot; the first line of what it says, the rest repeats the command.
    """
    try:
        return copy.deepcopy(_resolved(command, tuple(words)))
    except (HydraException, OmegaConfBaseException) as error:
        lines = (line.strip() for line in str(error).splitlines())
        text = next(filter(None, lines), repr(error))
        raise ConfigError(text + _of_references(words)) from error


@lru_cache(maxsize=64)
def composed(command: str, words: tuple[str, ...]) -> DictConfig:
    """A command's configuration as Hydra composes it; needs `hydra_ready`.

    Composing takes a tenth of a second, and a check looks at the same choices several times, with
    and without values: what the choices make is kept, and values are set on a copy of it, as Hydra
    does itself.

    Returns:
        The configuration, which callers share and leave as it is.

    Raises:
        HydraException: a word cannot be read or applied.
        OmegaConfBaseException: a value refers to what does not exist.
    """
    choices, changes = _sorted_words(words)
    if all(map(_only_changes, changes)):
        config = copy.deepcopy(_chosen(command, choices)[0])
        try:
            for override in changes:
                OmegaConf.update(config, override.key_or_group, override.value(), merge=True)
        except OmegaConfBaseException:
            pass  # Hydra says below which word it comes of
        else:
            return config
    return compose(command, list(words))


def chosen_mode(command: str, words: Iterable[str]) -> RunMode | None:
    """What a file among those chosen says of `hydra.mode`; needs `hydra_ready`."""
    return _chosen(command, _sorted_words(words)[0])[1]


def _sorted_words(words: Iterable[str]) -> tuple[tuple[str, ...], list[Override]]:
    """The words that choose options, and all others."""
    overrides = OverridesParser.create().parse_overrides(list(words))
    choices = tuple(str(override.input_line) for override in overrides if _chooses(override))
    return choices, [override for override in overrides if not _chooses(override)]


@lru_cache(maxsize=64)
def _chosen(command: str, words: tuple[str, ...]) -> tuple[DictConfig, RunMode | None]:
    """The configuration under words that choose options, without Hydra's part, and its mode."""
    config = compose(command, list(words), return_hydra_config=True)
    mode = config.hydra.mode
    with open_dict(config):
        del config["hydra"]
    return config, mode


def _chooses(override: Override) -> bool:
    """Whether a word chooses an option of a group; others give or take values."""
    key = override.key_or_group
    is_group = override.package is not None or "/" in key or (CONFIG_DIR / key).is_dir()
    return is_group and not isinstance(override.value(), dict)


def _only_changes(override: Override) -> bool:
    """Whether a word gives another value to a key of ours, which has to be there."""
    is_ours = override.key_or_group.partition(".")[0] != "hydra"
    return is_ours and override.type == OverrideType.CHANGE and not override.is_sweep_override()


@lru_cache(maxsize=64)
def _resolved(command: str, words: tuple[str, ...]) -> dict[str, Any]:
    return to_plain(composed(command, words))


def _of_references(words: Iterable[str]) -> str:
    """A clause where a word may refer to another key without being meant to."""
    typed = [word for word in words if "${" in word]
    if not typed:
        return ""
    return (
        f". In {' '.join(typed)} `${{...}}` stands for the value of another key; with a backslash, "
        "`\\${...}`, it is the characters themselves"
    )


def to_plain(config: DictConfig) -> dict[str, Any]:
    """Resolves a composed configuration into plain Python; missing values stay '???'.

    Paths that begin with `~` get the home folder here, whoever has typed them where.
    """
    plain = OmegaConf.to_container(config, resolve=True, throw_on_missing=False)
    return without_tildes({str(key): value for key, value in dict(plain).items()})  # type: ignore[arg-type]
