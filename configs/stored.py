"""Settings that a checkpoint brings along, and who wins where the command line speaks too.

A training run leaves its resolved configuration twice: in `config.yaml` beside `checkpoints/`,
readable without torch, and inside each checkpoint. Evaluating or resuming starts from it; what was
typed wins, and every difference is told.
"""

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from hydra.core.override_parser.types import Override

from configs.overrides import CONFIG_DIR, flat_keys, group_options
from editors.registry import with_current_names
from errors import ConfigError

# What is taken over, by command. `logger`, `output_dir` and the like belong to the new run.
_TAKEN = {
    "evaluate": ("editor", "model", "data"),
    "train": ("editor", "model", "data", "scenario", "metrics", "evaluate", "trainer", "seed"),
    "pretrain": ("model", "data", "pretrain", "trainer", "seed"),
}
# Of these, what says how a run was made, not what it is.
_OWN = {"evaluate": ("data.limit", "data.num_workers")}


def stored_config(ckpt: str) -> dict[str, Any]:
    """Reads the configuration that a checkpoint was made with.

    It stands in config.yaml beside the folder of checkpoints; where that is not there, it is read
    from the checkpoint itself, which loads torch.

    Args:
        ckpt: the checkpoint file.

    Returns:
        Nested plain Python.

    Raises:
        ConfigError: the file is missing, or its config.yaml is not one of ours.
        ModelError: the file holds no checkpoint of ours.
    """
    path = Path(ckpt).expanduser()
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
        there = f"; that folder has {', '.join(beside)}" if beside else ""
        raise ConfigError(f"ckpt={ckpt}: there is no such file{there}")
    copy_beside = path.resolve().parent.parent / "config.yaml"
    if path.resolve().parent.name == "checkpoints" and copy_beside.is_file():
        try:
            plain = yaml.safe_load(copy_beside.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"ckpt={ckpt}: {copy_beside} is no YAML ({' '.join(str(error).split())}); "
                "move it away to use the settings inside the checkpoint"
            ) from error
        if not isinstance(plain, dict):
            raise ConfigError(
                f"ckpt={ckpt}: {copy_beside} holds no settings; move it away to use those inside "
                "the checkpoint"
            )
    else:
        from editors.checkpoint import stored_config as config_inside  # loads torch

        plain = config_inside(path)
    return with_current_keys(plain)


def with_current_keys(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was written earlier, by the names that its keys have now."""
    editor = stored.get("editor")
    known = {"editor": with_current_names(editor)} if isinstance(editor, dict) else {}
    return {**stored, **known}


def choices_of(stored: dict[str, Any], command: str, typed: Iterable[str]) -> list[str]:
    """Group overrides that make Hydra start from the checkpoint's own options.

    Args:
        stored: the checkpoint's configuration.
        command: `train`, `evaluate` or `pretrain`.
        typed: keys and groups of the command line.

    Returns:
        Words such as `editor=mend`, for groups that were not typed.
    """
    typed = set(typed)
    words = []
    for group in ("editor", "model", "data", "scenario"):
        name = stored[group].get("name") if isinstance(stored.get(group), dict) else None
        wanted = group in _TAKEN[command] and group not in typed
        if wanted and (name in group_options(group) or group == "editor"):
            words.append(f"{group}={name}")
    return words


def experiment_conflicts(stored: dict[str, Any], overrides: list[Override]) -> list[str]:
    """Sentences where an experiment and a checkpoint disagree on a group that keys were typed for.

    Otherwise the checkpoint's group is taken; but `data.root=DIR` must not land in a group that the
    user did not think of.

    Args:
        stored: the checkpoint's configuration.
        overrides: the parsed command line.

    Returns:
        One sentence for each such group.
    """
    typed = {o.key_or_group for o in overrides}
    chosen = _experiment_choices(overrides)
    return [
        f"{group}: the experiment chooses {option} and the checkpoint {stored[group].get('name')}, "
        f"and {group}.* keys are typed; say which with {group}={option} or "
        f"{group}={stored[group].get('name')}"
        for group, option in chosen.items()
        if isinstance(stored.get(group), dict)
        and stored[group].get("name") != option
        and group not in typed
        and any(key.startswith(f"{group}.") for key in typed)
    ]


def merge(
    command: str, plain: dict[str, Any], stored: dict[str, Any], overrides: list[Override]
) -> tuple[dict[str, Any], list[str]]:
    """Puts a checkpoint's settings under what was typed.

    A typed `group=option` of another name replaces the whole group; of the same name it changes
    nothing, and typed keys are set on top. What an experiment sets does not count as typed.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the composed configuration.
        stored: the checkpoint's configuration.
        overrides: the parsed command line.

    Returns:
        The merged configuration (the arguments stay as they are), and a sentence for each setting
        that differs from the checkpoint's because it was typed.

    Raises:
        ConfigError: another editor than the checkpoint's was typed.
    """
    typed = {o.key_or_group for o in overrides}
    merged, notes = copy.deepcopy(plain), []
    for section in _TAKEN[command]:
        if section not in stored or section not in plain:
            continue
        old, new = stored[section], plain[section]
        name, stored_name = (s.get("name") if isinstance(s, dict) else str(s) for s in (new, old))
        if section in typed and (name is None or name != stored_name):
            if section == "editor":
                raise ConfigError(
                    f"editor={name}: ckpt holds a trained {stored_name}; leave editor= out, "
                    "or name another checkpoint"
                )
            if new != old:
                notes.append(_note(section, name or "the option", stored_name or "others"))
        elif isinstance(old, dict) and isinstance(new, dict) and name == stored_name:
            merged[section] = _over(new, old, section, notes)
        else:
            merged[section] = copy.deepcopy(old)
    for key in [*_OWN.get(command, ()), *typed]:
        note = _restore(merged, plain, key)
        notes += [note] if note and key in typed else []
    return merged, notes


def _experiment_choices(overrides: list[Override]) -> dict[str, str]:
    """Groups that the experiment on the command line chooses an option of."""
    for override in overrides:
        path = CONFIG_DIR / "experiment" / f"{override.value()}.yaml"
        if override.key_or_group == "experiment" and path.is_file():
            defaults = yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", [])
            entries = [entry for entry in defaults if isinstance(entry, dict)]
            return {
                key.removeprefix("override /"): str(option)
                for entry in entries
                for key, option in entry.items()
            }
    return {}


def _over(
    base: dict[str, Any], top: dict[str, Any], where: str, notes: list[str]
) -> dict[str, Any]:
    """`top` over `base`, section by section; keys that only `base` has stay.

    Keys that only `top` has were dropped since the checkpoint was written; they are left out.
    """
    merged = dict(base)
    for key, value in top.items():
        if key not in base:
            notes.append(f"{where}.{key} of the checkpoint is not known any more and is left out")
        elif isinstance(value, dict) and isinstance(base[key], dict):
            merged[key] = _over(base[key], value, f"{where}.{key}", notes)
        else:
            merged[key] = value
    return merged


def _restore(merged: dict[str, Any], plain: dict[str, Any], key: str) -> str | None:
    """Sets one dotted key back to what the command line says; tells a difference."""
    if "." not in key or key not in flat_keys(plain):
        return None
    *sections, last = key.split(".")
    target, source = merged, plain
    for section in sections:
        if not isinstance(target.get(section), dict):
            return None
        target, source = target[section], source[section]
    before, target[last] = target.get(last), source[last]
    return _note(key, source[last], before) if before != source[last] else None


def _note(key: str, now: object, before: object) -> str:
    return f"{key}={now} is used as typed; the checkpoint was made with {before}"
