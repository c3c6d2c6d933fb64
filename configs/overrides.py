"""Each word of the command line, checked alone, so that all mistakes can be told at once.

Hydra stops at the first override that it cannot apply. Here every `group=option` and `key=value` is
looked up first, mistakes are collected with the closest names that exist, and only what is sound is
composed. Nothing here imports torch.
"""

import difflib
import importlib.util
import itertools
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeGuard, cast

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from configs.composing import CONFIG_DIR, composed
from configs.data_rules import TRAIN
from configs.schema import COMMANDS
from configs.words import key_of, quoted
from editors.registry import editor_names, registration

_NOTES = {"editor": " (ft as in the paper's Table 4, ft_as_run as its authors ran it)"}
# One experiment of the paper's tables was a file of its own once.
_OLD_EXPERIMENT = re.compile(
    r"tmke_table([123])_(ft|ike|mend|serac|rome)_(blip2_opt|minigpt4|llava)"
)


@dataclass(frozen=True)
class CommandLine:
    """The words of a command line.

    Attributes:
        overrides: those that Hydra can apply.
        problems: one sentence for each of the others.
        unread: groups and keys of those whose value Hydra cannot read.
    """

    overrides: list[Override]
    problems: list[str]
    unread: frozenset[str] = frozenset()

    @property
    def keys(self) -> set[str]:
        """Groups and keys that the overrides set."""
        return {typed_key(override) for override in self.overrides}


def typed_key(override: Override) -> str:
    """The key or group that a word sets; `data.train` is the group `data` in another place."""
    return TRAIN if override.package == TRAIN else str(override.key_or_group)


def parse_words(words: Iterable[str]) -> CommandLine:
    """Parses overrides; needs no configuration, and looks nothing up."""
    parser = OverridesParser.create()
    overrides, problems, unread = [], [], []
    for word in words:
        try:
            overrides.append(parser.parse_override(word))
        except (HydraException, ValueError):  # ValueError: more digits than Python's int takes
            problems.append(_unread_problem(word))
            unread.append(key_of(word) or "")
    return CommandLine(overrides, problems, frozenset(unread) - {""})


def _unread_problem(word: str) -> str:
    """A sentence for a word that Hydra cannot read."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"{word!r} is not of the form group=option or key=value (did you mean {word}=VALUE?)"
    if key_of(word) is None:
        return f"{word!r} is not of the form group=option or key=value: {key!r} is no name of a key"
    return (
        f"{word}: the value cannot be read as it stands; if it is a text, type quotes inside "
        f"quotes: {shlex.quote(f'{key}={quoted(value)}')}"
    )


def check_words(command: str, words: Iterable[str], *, multirun: bool = False) -> CommandLine:
    """Looks up every override of a command line; needs `hydra_ready`.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: the command line without flags.
        multirun: whether lists of values are allowed (Hydra's -m).
    """
    parsed = parse_words(words)
    groups = command_groups(command)
    has_sweeper = "hydra/sweeper" in parsed.keys
    sound: list[Override] = []
    problems = list(parsed.problems)
    keyed: list[Override] = []
    for override in parsed.overrides:
        key = typed_key(override)
        if override.is_sweep_override() and not multirun:
            problems.append(
                f"{override.input_line}: a list of values makes several runs; ask for that with -m"
            )
        elif override.is_sweep_override() and not override.is_discrete_sweep() and not has_sweeper:
            problems.append(
                f"{override.input_line}: an interval is for a sweeper that picks values, such as "
                "hydra/sweeper=optuna; give values, as in key=a,b,c, or range(start,stop,step)"
            )
        elif key == "hydra" or key.startswith(("hydra.", "hydra/")):
            missing = _missing_plugin(override) + _moved_folder(override)
            problems += missing
            sound += [] if missing else [override]
        elif key in groups or (key == TRAIN and "data" in groups):
            mistakes = _group_problems(override)
            problems += mistakes
            sound += _row_of_paper(override).overrides if mistakes else [override]
        else:
            keyed.append(override)
    known = _known_keys(command, sound)
    for override in keyed:
        problem = _key_problem(command, override, known)
        if problem:
            problems.append(problem)
        else:
            sound.append(override)
    return CommandLine(sound, problems, parsed.unread)


def command_groups(command: str) -> list[str]:
    """Configuration groups that a command takes, in the order of its defaults list."""
    return [name for name in default_options(command) if name not in COMMANDS[command].unused]


@cache
def default_options(command: str) -> dict[str, str | None]:
    """Group -> the option that a command takes where none is typed, in the order of the list."""
    primary = yaml.safe_load((CONFIG_DIR / f"{command}.yaml").read_text(encoding="utf-8"))
    items = [i for entry in primary["defaults"] if isinstance(entry, dict) for i in entry.items()]
    return {key: option for key, option in items if (CONFIG_DIR / key).is_dir() and "@" not in key}


def group_options(group: str) -> list[str]:
    """Options of a group, sorted."""
    return sorted(path.stem for path in (CONFIG_DIR / group).glob("*.yaml"))


def sweep_jobs(overrides: Iterable[Override]) -> list[list[str]]:
    """The words of all jobs of a sweep; one job without a sweep."""
    texts = [
        [f"{o.get_key_element()}={value}" for value in _swept(o)]
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in overrides
    ]
    return [list(job) for job in itertools.product(*texts)]


def _swept(override: Override) -> Iterable[object]:
    """The values of a sweep; of an interval, which a sweeper picks from, its two ends."""
    if override.is_discrete_sweep():
        return override.sweep_string_iterator()
    interval = override.value()
    return (interval.start, interval.end)  # type: ignore[union-attr]


def suggest(name: str, names: Iterable[str]) -> str:
    """A clause that names the closest existing names, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def dotted(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of all keys, sections included."""
    for key, value in node.items():
        yield f"{prefix}{key}", value
        if is_section(value):
            yield from dotted(value, f"{prefix}{key}.")


def leaves(node: Mapping[str, Any]) -> dict[str, Any]:
    """Values of all keys that are no sections, by dotted name.

    >>> leaves({"editor": {"ridge": 1.0, "sites": {"mlp_in": [2]}, "scope": {"threshold": 0.5}}})
    {'editor.ridge': 1.0, 'editor.sites': {'mlp_in': [2]}, 'editor.scope.threshold': 0.5}
    """
    return {name: value for name, value in dotted(node) if not is_section(value)}


def is_section(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether a value has keys of its own; lists by name, as of `editor.sites`, are one value."""
    if not isinstance(value, Mapping):
        return False
    return not value or any(not isinstance(of_key, list | tuple) for of_key in value.values())


def sections_of(key: str) -> set[str]:
    """A dotted name and those of all sections that it is in.

    >>> sorted(sections_of("model.max_memory.cpu"))
    ['model', 'model.max_memory', 'model.max_memory.cpu']
    """
    parts = key.split(".")
    return {".".join(parts[:depth]) for depth in range(1, len(parts) + 1)}


def _group_problems(override: Override) -> list[str]:
    """Sentences for options that a group does not have."""
    group = typed_key(override)
    options = group_options(str(override.key_or_group))
    if override.is_delete():
        return []
    problems = []
    for value in _values(override):
        if value is None:
            problems.append(f"{group}=null: leave it out to choose nothing")
        elif words := _row_words(value):
            problems.append(f"{group}={value}: this experiment is now typed as {' '.join(words)}")
        elif str(value) not in options:
            problems.append(
                f"{group}={value}: there is no configs/{override.key_or_group}/{value}.yaml; "
                f"{group} is one of {', '.join(options)}{_NOTES.get(group, '')}"
                f"{suggest(str(value), options)}"
            )
    return problems


def _missing_plugin(override: Override) -> list[str]:
    """A sentence where a sweep needs a plugin of Hydra that is not there."""
    word = str(override.input_line)
    if word.startswith("hydra/launcher=submitit_") and not importlib.util.find_spec("submitit"):
        return [f"{word}: hydra-submitit-launcher is missing, pip install -e '.[slurm]' brings it"]
    if word == "hydra/launcher=joblib" and not (
        importlib.util.find_spec("hydra_plugins")  # without which the other one cannot be sought
        and importlib.util.find_spec("hydra_plugins.hydra_joblib_launcher")
    ):
        return [f"{word}: hydra-joblib-launcher is missing, pip install -e '.[joblib]' brings it"]
    if word == "hydra/sweeper=optuna" and not importlib.util.find_spec("optuna"):
        return [f"{word}: hydra-optuna-sweeper is missing, pip install hydra-optuna-sweeper"]
    return []


def _moved_folder(override: Override) -> list[str]:
    """A sentence where Hydra would change the working directory after paths have been checked."""
    if override.key_or_group != "hydra.job.chdir" or override.value() in (False, None):
        return []
    return [
        f"{override.input_line}: the paths of a command are meant from the folder it is started "
        "in, and Hydra would go to another one first; leave it out, and say with output_dir=DIR "
        "where results go"
    ]


def _row_of_paper(override: Override) -> CommandLine:
    """What stands for an experiment of one row, so that the other words are checked under it."""
    return parse_words([] if override.is_sweep_override() else _row_words(override.value()))


def _row_words(experiment: object) -> list[str]:
    """The words that an experiment of one row of the paper's tables is typed as today, if it is."""
    match = _OLD_EXPERIMENT.fullmatch(str(experiment))
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


def _known_keys(command: str, overrides: list[Override]) -> dict[str, None]:
    """Keys that exist under the chosen options; for a sweep, those of any of its jobs."""
    known: dict[str, None] = {}
    for words in sweep_jobs(o for o in overrides if not o.key_or_group.startswith("hydra")):
        try:
            config = OmegaConf.to_container(composed(command, tuple(words)), resolve=False)
        except (HydraException, OmegaConfBaseException):
            continue
        for section in COMMANDS[command].unused:
            cast(dict[str, Any], config).pop(section, None)
        known |= dict.fromkeys(name for name, _ in dotted(cast(dict[str, Any], config)))
    return known


def _key_problem(command: str, override: Override, known: Iterable[str]) -> str | None:
    """A sentence where a key does not exist."""
    key, known = override.key_or_group, list(known)
    section = re.split(r"[./@]", key)[0]
    if section in COMMANDS[command].unused:
        return (
            f"{override.input_line}: {command}.py scores nothing, so {section} means nothing to "
            "it; leave it out"
        )
    if section == "callbacks" and section in known and not override.is_delete():
        if override.is_add() or override.is_force_add():
            return None
        hint = "+callbacks.NAME={_target_: CLASS, ...}"
        return f"{override.input_line}: a callback is added with a plus, as {hint}"
    if key in known or override.is_add() or override.is_force_add():
        return None
    is_group = (CONFIG_DIR / section).is_dir() and section not in known
    if is_group and section not in command_groups(command):
        return f"{override.input_line}: {command}.py has no group {section}"
    if section == "editor" and "editor" not in known:
        return f"{override.input_line}: choose the editor first, with editor=NAME or ckpt=FILE"
    if (new := _new_name(key)) in known:
        return f"{override.input_line}: {key} is called {new} now"
    same_end = [name for name in known if name.endswith(f".{key}")]
    hint = f"; did you mean {' or '.join(same_end)}?" if same_end else ""
    hint = hint or suggest(key, dict.fromkeys([*known, *command_groups(command)]))
    if not hint and section in known and "." in key:
        inside = [name for name in known if name.startswith(f"{section}.")]
        hint = f"; the keys there are {', '.join(inside)}"
    return f"{override.input_line}: there is no key {key}{hint}"


def _new_name(key: str) -> str | None:
    """What a key that was renamed is called now."""
    section, _, name = key.partition(".")
    renamed = [registration(editor).options.renamed for editor in editor_names()]
    new = next((names[name] for names in renamed if name in names), None)
    return f"editor.{new}" if section == "editor" and new else None
