"""Each word of the command line, judged alone, so that all mistakes can be told at once.

Hydra stops at the first override that it cannot apply. Here every `group=option` and `key=value` is
looked up first, mistakes are collected with the closest names that exist, and only what is sound is
composed. Nothing here imports torch.
"""

import copy
import difflib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from editors.registry import editor_names, registration

CONFIG_DIR = Path(__file__).resolve().parent
_BARE_LIST = re.compile(r"^(\+{0,2}protocol\.n=)([^][(){}'\"]*,[^][(){}'\"]*)$")
_NOTES = {"editor": " (ft as in the paper's Table 4, ft_as_run as its authors ran it)"}
# One experiment of the paper's tables was a file of its own once.
_OLD_EXPERIMENT = re.compile(
    r"tmke_table([123])_(ft|ike|mend|serac|rome)_(blip2_opt|minigpt4|llava)"
)


@dataclass(frozen=True)
class Sorted:
    """The words of a command line, sorted out.

    Attributes:
        good: overrides that Hydra can apply.
        problems: one sentence for each of the others.
    """

    good: list[Override]
    problems: list[str]


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Makes `compose` find the YAML files of this folder, from any working directory."""
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_DIR)):
        yield


def parse(words: Iterable[str]) -> Sorted:
    """Parses overrides; needs no configuration.

    Args:
        words: the command line without flags.

    Returns:
        Parsed overrides, and a sentence for each word that is none.
    """
    parser = OverridesParser.create()
    good, problems = [], []
    for word in words:
        try:
            good.append(parser.parse_override(word))
        except HydraException:
            hint = "" if "=" in word else f" (did you mean {word}=VALUE?)"
            problems.append(
                f"{word!r} is not of the form group=option or key=value{hint}; a value with "
                "spaces, commas or brackets needs quotes inside quotes: 'key=\"a, b\"'"
            )
    return Sorted(good, problems)


def with_lists(words: Iterable[str]) -> list[str]:
    """Words in which `protocol.n=1,10` is `protocol.n=[1,10]`, one list and not a sweep.

    Args:
        words: a command line without -m, under which commas make several runs.
    """
    return [_BARE_LIST.sub(r"\1[\2]", word) for word in words]


def judge(command: str, words: Iterable[str], *, multirun: bool = False) -> Sorted:
    """Looks up every override of a command line; needs `hydra_ready`.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: the command line without flags.
        multirun: whether lists of values are allowed (Hydra's -m).

    Returns:
        What can be composed, and a sentence for each mistake.
    """
    parsed = parse(words)
    groups = command_groups(command)
    good: list[Override] = []
    problems = list(parsed.problems)
    keyed: list[Override] = []
    for override in parsed.good:
        key = override.key_or_group
        if override.is_sweep_override() and not multirun:
            problems.append(
                f"{override.input_line}: a list of values makes several runs; ask for that with -m"
            )
        elif key == "hydra" or key.startswith(("hydra.", "hydra/")):
            missing = _missing_launcher(override)
            problems += missing
            good += [] if missing else [override]
        elif key in groups:
            found = _group_problems(override)
            problems += found
            good += [] if found else [override]
            if found and not override.is_sweep_override():
                good += parse(_old_experiment(override.value())).good
        else:
            keyed.append(override)
    known = _known_keys(command, good)
    for override in keyed:
        problem = _key_problem(command, override, known)
        if problem:
            problems.append(problem)
        else:
            good.append(override)
    return Sorted(good, problems)


def command_groups(command: str) -> list[str]:
    """Configuration groups that a command takes, in the order of its defaults list."""
    primary = yaml.safe_load((CONFIG_DIR / f"{command}.yaml").read_text(encoding="utf-8"))
    names = [key for entry in primary["defaults"] if isinstance(entry, dict) for key in entry]
    return [name for name in names if (CONFIG_DIR / name).is_dir() and "@" not in name]


def group_options(group: str) -> list[str]:
    """Options of a group, sorted."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def compose_plain(command: str, words: list[str]) -> dict[str, Any]:
    """Composes a command's configuration; needs `hydra_ready`.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: overrides without sweeps.

    Returns:
        Nested plain Python; a required value that is missing is the string '???'.
    """
    return copy.deepcopy(_composed(command, tuple(words)))


@lru_cache(maxsize=64)
def _composed(command: str, words: tuple[str, ...]) -> dict[str, Any]:
    """Composing takes a tenth of a second, and a check looks at the same words several times."""
    return to_plain(compose(command, list(words)))


def to_plain(composed: DictConfig) -> dict[str, Any]:
    """Resolves a composed configuration into plain Python; missing values stay '???'."""
    plain = OmegaConf.to_container(composed, resolve=True, throw_on_missing=False)
    return {str(key): value for key, value in dict(plain).items()}  # type: ignore[arg-type]


def first_words(error: Exception) -> str:
    """The first line of a library's message, where the rest repeats the command."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))


def suggest(name: str, names: Iterable[str]) -> str:
    """A clause that names the closest existing names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def flat_keys(node: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted names of all keys, sections included."""
    keys = []
    for key, value in node.items():
        keys.append(f"{prefix}{key}")
        if isinstance(value, Mapping):
            keys += flat_keys(value, f"{prefix}{key}.")
    return keys


def _group_problems(override: Override) -> list[str]:
    """Sentences for options that a group does not have."""
    group = override.key_or_group
    options = group_options(group)
    if override.is_delete():
        return []
    problems = []
    for value in _values(override):
        if value is None:
            problems.append(f"{group}=null: leave it out to choose nothing")
        elif words := _old_experiment(value):
            problems.append(f"{group}={value}: this experiment is now typed as {' '.join(words)}")
        elif str(value) not in options:
            problems.append(
                f"{group}={value}: there is no configs/{group}/{value}.yaml; "
                f"{group} is one of {', '.join(options)}{_NOTES.get(group, '')}"
                f"{suggest(str(value), options)}"
            )
    return problems


def _missing_launcher(override: Override) -> list[str]:
    """A sentence where a sweep is to start SLURM jobs and the plugin for it is not there."""
    launcher = str(override.input_line)
    if not launcher.startswith("hydra/launcher=submitit_"):
        return []
    if importlib.util.find_spec("submitit"):
        return []
    return [f"{launcher}: hydra-submitit-launcher is missing, pip install -e '.[slurm]' brings it"]


def _old_experiment(name: object) -> list[str]:
    """The words that an experiment of one row of the paper's tables is typed as today, if it is."""
    match = _OLD_EXPERIMENT.fullmatch(str(name))
    if match is None:
        return []
    table, editor, model = match.groups()
    editor = "ft_as_run" if editor == "ft" else editor
    scenario = ("unimodal", "transitive", "multimodal")[int(table) - 1]
    return ["experiment=tmke", f"editor={editor}", f"model={model}", f"scenario={scenario}"]


def _values(override: Override) -> list[Any]:
    """The one value of an override, or all values of a sweep."""
    if override.is_sweep_override():
        return list(override.sweep_iterator())
    value = override.value()
    return value if isinstance(value, list) else [value]


def _known_keys(command: str, groups: list[Override]) -> list[str]:
    """Keys that exist under the chosen options; for a sweep, those of any of its jobs."""
    known: dict[str, None] = {}
    choices: list[list[str]] = [[]]
    for override in groups:
        if not override.key_or_group.startswith("hydra"):
            texts = _as_texts(override)
            choices = [[*chosen, text] for chosen in choices for text in texts]
    for words in choices:
        try:
            known |= dict.fromkeys(flat_keys(compose_plain(command, words)))
        except (HydraException, OmegaConfBaseException):
            continue
    return list(known)


def _new_name(key: str) -> str | None:
    """What a key that was renamed is called now."""
    section, _, name = key.partition(".")
    renamed = [registration(editor).options.renamed for editor in editor_names()]
    new = next((names[name] for names in renamed if name in names), None)
    return f"editor.{new}" if section == "editor" and new else None


def _as_texts(override: Override) -> list[str]:
    """An override as words without sweeps."""
    if override.is_sweep_override():
        return [f"{override.get_key_element()}={v}" for v in override.sweep_string_iterator()]
    return [str(override.input_line)]


def _key_problem(command: str, override: Override, known: list[str]) -> str | None:
    """A sentence where a key does not exist."""
    key = override.key_or_group
    if key in known or override.is_add() or override.is_force_add():
        return None
    section = key.split(".")[0].split("/")[0].split("@")[0]
    if (CONFIG_DIR / section).is_dir() and section not in command_groups(command):
        return f"{override.input_line}: {command}.py has no group {section}"
    if section == "editor" and "editor" not in known:
        return f"{override.input_line}: choose the editor first, with editor=NAME or ckpt=FILE"
    if (new := _new_name(key)) in known:
        return f"{override.input_line}: {key} is called {new} now"
    same_end = [name for name in known if re.search(rf"\.{re.escape(key)}$", name)]
    hint = f"; did you mean {' or '.join(same_end)}?" if same_end else suggest(key, known)
    if not hint and section in known and "." in key:
        inside = [k for k in known if k.startswith(f"{section}.")]
        hint = f"; the keys there are {', '.join(inside)}"
    return f"{override.input_line}: there is no key {key}{hint}"
