"""Settings that a checkpoint brings along, and who wins where the command line speaks too.

A training run leaves its resolved configuration twice: in `config.yaml` beside `checkpoints/`,
readable without torch, and inside each checkpoint. Evaluating or resuming starts from it; what was
typed wins, and every difference is logged.
"""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from configs.composing import CONFIG_DIR
from configs.continuing import changes
from configs.data_rules import TRAIN
from configs.overrides import CommandLine, dotted, group_options, is_section
from configs.words import without_tildes
from datamodules.source import named_filter, source_names, source_options
from editors.hub import checkpoint_file
from editors.registry import with_current_names
from errors import ConfigError
from options import check_path, is_on_hub
from results.files import CHECKPOINTS

# What a new run takes over, by command; `logger`, `output_dir` and the like belong to the new run,
# and pretraining is never continued.
SECTIONS = {
    "edit": ("editor", "model", "data"),
    "evaluate": ("editor", "model", "data"),
    "train": (
        "editor",
        "model",
        "data",
        "scenario",
        "metrics",
        "evaluate",
        "trainer",
        "seed",
        "callbacks",
    ),
}
# What decides a training besides its editor and model, for results of its checkpoint.
_DECIDES_TRAINING = {
    "scenario": ("name",),
    "metrics": ("positions",),
    "trainer": (
        "precision", "max_steps", "val_every", "patience", "devices", "num_nodes",
        "limit_train_batches", "limit_val_batches",
    ),
}  # fmt: skip
# The keys that a training keeps of this group; an earlier one kept all, and looked at none.
_OF_TRAINED_METRICS = {"positions"}
# What says of its data where they are, and not what they are; `taught` and `allow_overlap` are
# about test edits.
_DATA_IS_WHERE = ("root", "num_workers", "on_error", "taught", "allow_overlap")
# Keys of `SECTIONS` that are the new run's own.
_NEVER_TAKEN = {"evaluate": ("data.limit", "data.num_workers", "data.allow_overlap")}


def stored_config(ckpt: str) -> dict[str, Any]:
    """Reads the configuration that a checkpoint was made with.

    It stands in config.yaml beside the folder of checkpoints; where that is not there, it is read
    from the checkpoint itself, which loads torch.

    Raises:
        ConfigError: the file is missing, or its config.yaml is not one of ours.
        ModelError: the file holds no checkpoint of ours, or the hub has no such one.
    """
    try:
        path = checkpoint_file(check_path(ckpt))
    except ValueError as error:
        raise ConfigError(f"ckpt={ckpt}: {error}") from error
    if not path.is_file():
        beside = sorted(p.name for p in path.parent.glob("*.ckpt")) if path.parent.is_dir() else []
        hint = f"; that folder has {', '.join(beside)}" if beside else ""
        raise ConfigError(f"ckpt={ckpt}: there is no such file{hint}")
    # The files of a downloaded repository are links into a store of all its files.
    folder = path.parent if is_on_hub(ckpt) else path.resolve().parent
    config_beside = folder.parent / "config.yaml"
    if folder.name == CHECKPOINTS and config_beside.is_file():
        try:
            plain = yaml.safe_load(config_beside.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                f"ckpt={ckpt}: {config_beside} cannot be read ({error.strerror})"
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"ckpt={ckpt}: {config_beside} is no YAML ({' '.join(str(error).split())}); "
                "move it away to use the settings inside the checkpoint"
            ) from error
        if not isinstance(plain, dict):
            raise ConfigError(
                f"ckpt={ckpt}: {config_beside} holds no settings; move it away to use those inside "
                "the checkpoint"
            )
    else:
        from editors.checkpoint import config_inside  # loads torch

        plain = config_inside(ckpt)
    return with_current_keys(plain)


def trained_source(stored: Mapping[str, Any]) -> str | None:
    """The source that a training took its records from: `data.train`, or `data` where that is none.

    Args:
        stored: of `stored_config`, or what `training_settings` keeps of it.

    Returns:
        Its name; None where the settings do not say.
    """
    data = stored.get("data")
    if not isinstance(data, Mapping):
        return None
    trained_on = data.get("train")
    name = (trained_on if isinstance(trained_on, Mapping) else data).get("name")
    return None if name is None else str(name)


def training_settings(stored: Mapping[str, Any]) -> dict[str, Any]:
    """What a result says of the training that made its checkpoint: what decides it, and its seed.

    With it a report tells trainings that differ in the seed alone from others. The editor and the
    model are not in it: the result has them, and they are the checkpoint's.

    Args:
        stored: of `stored_config`.
    """
    settings: dict[str, Any] = {"seed": stored.get("seed")}
    data = stored.get("data")
    if isinstance(data, dict):
        settings["data"] = _what_it_is(data)
    for section, keys in _DECIDES_TRAINING.items():
        values = stored.get(section)
        if isinstance(values, dict):
            settings[section] = {key: values[key] for key in keys if key in values}
    return settings


def _what_it_is(data: Mapping[str, Any]) -> dict[str, Any]:
    """The section `data` without what says where its files are, and how they are read."""
    return {
        key: _what_it_is(value) if isinstance(value, dict) else value
        for key, value in data.items()
        if key not in _DATA_IS_WHERE
    }


def with_current_keys(stored: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration that was written earlier, by the names that its keys have now.

    A `~` in it is one that was not expanded then.
    """
    editor, metrics = stored.get("editor"), stored.get("metrics")
    known = {"editor": with_current_names(editor)} if isinstance(editor, dict) else {}
    known |= _current_data(stored)
    is_training = "protocol" not in stored
    if is_training and isinstance(metrics, dict) and metrics.keys() > _OF_TRAINED_METRICS:
        known["metrics"] = {"positions": "answer"}  # once the only choice, whatever was typed
    elif not is_training and isinstance(metrics, dict):
        known["metrics"] = {"cluster": "record"} | metrics  # once the only choice
    if not is_training and isinstance(asked := stored.get("evaluate"), dict):
        known["evaluate"] = {"name_first": False} | asked  # nothing was asked by a name then
    if isinstance(protocol := stored.get("protocol"), dict):
        turn, contradictions = (None, None) if protocol.get("name") == "single" else (1, "last")
        # Edits were made one by one.
        known["protocol"] = {"turn": turn, "contradictions": contradictions} | protocol
    return without_tildes({**stored, **known})


def _current_data(plain: Mapping[str, Any]) -> dict[str, Any]:
    """The section `data` of a configuration by its keys and values of now; none where it has none.

    `filter_known` was a boolean, no model knew what it had been taught, and no probe was drawn.
    """
    data = plain.get("data")
    if not isinstance(data, dict):
        return {}
    data = _of_source(data)
    if isinstance(trained_on := data.get("train"), dict):
        data["train"] = _of_source(trained_on)
    return {"data": data}


def _of_source(data: Mapping[str, Any]) -> dict[str, Any]:
    known = {"filter_known": named_filter(data["filter_known"])} if "filter_known" in data else {}
    name = data.get("name")
    # No probe was drawn from other records then.
    draws = name in source_names() and "draw" in source_options(str(name)).model_fields
    return {
        "taught": False,
        "allow_overlap": False,
        **({"draw": False} if draws else {}),
        **data,
        **known,
    }


def stored_groups(stored: dict[str, Any], command: str, typed: Collection[str]) -> list[str]:
    """Group overrides that make Hydra start from the checkpoint's own options.

    Returns:
        Words such as `editor=mend`, for groups that were not typed.
    """
    words = []
    for group in ("editor", "model", "data", "scenario"):
        name = stored[group].get("name") if isinstance(stored.get(group), dict) else None
        is_taken = group in SECTIONS[command] and group not in typed
        if is_taken and (name in group_options(group) or group == "editor"):
            words.append(f"{group}={name}")
    data = stored.get("data")
    trained_on = data.get("train") if isinstance(data, dict) else None
    if isinstance(trained_on, dict) and TRAIN not in typed and "data" not in typed:
        words += [f"+data@{TRAIN}={trained_on.get('name')}"] * ("data" in SECTIONS[command])
    return words


def experiment_conflicts(stored: dict[str, Any], line: CommandLine) -> list[str]:
    """Sentences where an experiment and a checkpoint disagree on a group that keys were typed for.

    Otherwise the checkpoint's group is taken; but `data.root=DIR` must not land in a group that the
    user did not think of.
    """
    return [
        f"{group}: the experiment chooses {option} and the checkpoint {stored[group].get('name')}, "
        f"and {group}.* keys are typed; say which with {group}={option} or "
        f"{group}={stored[group].get('name')}"
        for group, option in _experiment_groups(line).items()
        if isinstance(stored.get(group), dict)
        and stored[group].get("name") != option
        and group not in line.keys
        and any(key.startswith(f"{group}.") for key in line.keys)
    ]


def merge_stored(
    command: str, plain: dict[str, Any], stored: dict[str, Any], typed: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Puts a checkpoint's settings under what was typed.

    A typed `group=option` of another name replaces the whole group; of the same name it changes
    nothing, and typed keys are set on top. What an experiment sets does not count as typed.

    Returns:
        The merged configuration (the arguments stay as they are), and a sentence for each setting
        that differs from the checkpoint's because it was typed.

    Raises:
        ConfigError: another editor than the checkpoint's was typed, or for a training what cannot
            be applied to it any more.
    """
    plain, notes = {**plain, **_current_data(plain)}, []
    merged = copy.deepcopy(plain)
    for section in SECTIONS[command]:
        if section not in stored or section not in plain:
            continue
        old, new = stored[section], plain[section]
        if section == "callbacks":  # by name; those that were typed are added or take a place
            merged[section] = copy.deepcopy(old) | new
            continue
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
            merged[section] = _merge_section(new, old, section, notes)
        else:
            merged[section] = copy.deepcopy(old)
    for key in [*_NEVER_TAKEN.get(command, ()), *typed]:
        note = _restore_typed(merged, plain, key)
        notes += [note] if note and key in typed else []
    return merged, _of_a_training(stored, merged, notes) if command == "train" else notes


def _of_a_training(
    stored: dict[str, Any], merged: dict[str, Any], notes: Sequence[str]
) -> list[str]:
    """What is told of a training that goes on: what is applied to it, and what else differs.

    Raises:
        ConfigError: what was typed cannot be applied to it.
    """
    applied, refused = changes(stored, merged)
    if refused:
        raise ConfigError(
            f"ckpt holds a training that cannot go on with other settings: {'; '.join(refused)}. "
            "Type what was, or begin another training without ckpt, in a folder of its own"
        )
    keys = tuple(f"{sentence.partition('=')[0]}=" for sentence in applied)
    return [*(note for note in notes if not note.startswith(keys)), *applied]


def _experiment_groups(line: CommandLine) -> dict[str, str]:
    """Groups that the experiment on the command line chooses an option of."""
    for override in line.overrides:
        path = CONFIG_DIR / "experiment" / f"{override.value()}.yaml"
        if override.key_or_group == "experiment" and path.is_file():
            defaults = yaml.safe_load(path.read_text(encoding="utf-8")).get("defaults", [])
            return {
                key.removeprefix("override /"): str(option)
                for entry in defaults
                if isinstance(entry, dict)
                for key, option in entry.items()
            }
    return {}


def _merge_section(
    base: Mapping[str, Any], top: Mapping[str, Any], where: str, notes: list[str]
) -> dict[str, Any]:
    """`top` over `base`, section by section; keys that only `base` has stay.

    Keys that only `top` has were dropped since the checkpoint was written; they are left out.
    """
    merged = dict(base)
    for key, value in top.items():
        if key not in base:
            notes.append(f"{where}.{key} of the checkpoint is not known any more and is left out")
        elif is_section(value) and is_section(base[key]):
            if value.get("name") != base[key].get("name"):  # another source to train on was typed
                notes.append(_note(f"{where}.{key}", base[key].get("name"), value.get("name")))
                continue
            merged[key] = _merge_section(base[key], value, f"{where}.{key}", notes)
        else:
            merged[key] = value
    return merged


def _restore_typed(merged: dict[str, Any], plain: dict[str, Any], key: str) -> str | None:
    """Sets one dotted key back to what the command line says; tells a difference."""
    if "." not in key or key == TRAIN or key not in dict(dotted(plain)):
        return None  # a group's own keys are set one by one
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
