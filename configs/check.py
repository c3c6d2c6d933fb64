"""Turns a command line into a checked configuration, or into one message with all its mistakes.

    words -> checked one by one -> composed by Hydra -> under a checkpoint's settings, if any
          -> typed, section by section -> rules between sections -> RunConfig

Nothing here imports torch, so that a typing mistake is answered at once.
"""

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Annotated, Any, cast

import yaml
from pydantic import TypeAdapter, ValidationError

from configs import schema
from configs.composing import compose_plain, hydra_ready
from configs.data_rules import TRAIN, keys_of_the_run
from configs.fitting import fitting_experiment, settings_warnings
from configs.overrides import (
    check_words,
    command_groups,
    default_options,
    dotted,
    leaves,
    parse_words,
    suggest,
    sweep_jobs,
)
from configs.rules import (
    UNREAD,
    Sections,
    keys_beside_sites,
    keys_of_twins,
    rule_problems,
    sweep_problems,
    useless_keys,
)
from configs.rundir import default_output_dir
from configs.stored import (
    SECTIONS,
    experiment_conflicts,
    merge_stored,
    stored_config,
    stored_groups,
)
from configs.words import quote_words, whole_words
from datamodules.source import source_options
from editors.hub import pinned
from editors.registry import registration
from errors import ConfigError, TmkeError
from options import local_or_hub

log = logging.getLogger(__name__)


def load_config(command: str, words: Iterable[str] = ()) -> schema.RunConfig:
    """Composes and checks the configuration of one run, as the entry points do.

    Raises:
        ConfigError: all mistakes in one message.
    """
    return cast("schema.RunConfig", _load(command, words))


def load_edit_config(words: Iterable[str]) -> schema.EditConfig:
    """The same of edit.py, which makes no run; its texts are taken letter by letter.

    Raises:
        ConfigError: all mistakes in one message.
    """
    return cast("schema.EditConfig", _load("edit", whole_words(words)))


def config_text(command: str, words: Iterable[str]) -> str:
    """All keys of a command with their values, as YAML; nothing is judged beyond the words.

    Raises:
        ConfigError: all mistakes of the words in one message.
    """
    with hydra_ready():
        words = _with_fitting_experiment(command, quote_words(whole_words(words)))
        if problems := check_words(command, words).problems:
            raise ConfigError(_message(command, problems))
        plain = compose_plain(command, words)
    shown = {
        key: value for key, value in plain.items() if key in schema.COMMANDS[command].model_fields
    }
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True)


def _load(command: str, words: Iterable[str]) -> schema.AnyConfig:
    with hydra_ready():
        words = checked_words(command, quote_words(words))
        plain = compose_plain(command, words)
    return _build(command, plain, words)


def checked_words(command: str, words: list[str], *, multirun: bool = False) -> list[str]:
    """The words to give to Hydra: those typed, and the groups of a checkpoint among them.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: the command line without flags; needs `hydra_ready`.
        multirun: whether lists of values are allowed; then every job of the sweep is checked.

    Raises:
        ConfigError: all mistakes of the command line in one message.
    """
    words, problems = preflight(command, words, multirun=multirun)
    if problems:
        raise ConfigError(_message(command, problems))
    return words


def preflight(
    command: str, words: list[str], *, multirun: bool = False
) -> tuple[list[str], list[str]]:
    """What `checked_words` does, with the mistakes as a list.

    Returns:
        The words to give to Hydra, and a sentence for each mistake.
    """
    parsed = parse_words(words)
    words, problems = _with_stored_groups(command, words)
    words = _with_fitting_experiment(command, words)
    is_unread = bool(problems)
    line = check_words(command, words, multirun=multirun)
    problems += line.problems + useless_keys(command, line.keys) + keys_of_the_run(line.keys)
    refused = (parsed.keys - line.keys) | parsed.unread
    for job in sweep_jobs(line.overrides):
        try:
            merged = compose_plain(command, job)
        except ConfigError as error:
            problems.append(str(error))
            continue
        skipped = refused | ({"editor"} if is_unread and merged.get("editor") is None else set())
        try:
            merged = _under_checkpoint(command, merged, job)[0]
        except TmkeError as error:
            problems.append(str(error))
            skipped |= set() if is_unread else {"editor", "ckpt"}
        problems += validate(command, merged, skipped)[1]
        problems += sweep_problems(merged, words) if multirun else []
        problems += keys_of_twins(merged, line.keys) + keys_beside_sites(merged, line.keys)
    return words, list(dict.fromkeys(problems))


def build(
    command: str, plain: dict[str, Any], words: Iterable[str], *, job: int | None = None
) -> schema.RunConfig:
    """Checks the composed configuration of a run and makes the typed one.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the composed configuration, plain Python.
        words: the overrides it was composed with.
        job: number of this job in a sweep, None outside.

    Raises:
        ConfigError: all mistakes in one message.
    """
    return cast("schema.RunConfig", _build(command, plain, words, job))


def _build(
    command: str, plain: dict[str, Any], words: Iterable[str], job: int | None = None
) -> schema.AnyConfig:
    merged, differences = _under_checkpoint(command, plain, words)
    if "output_dir" in merged:
        merged["output_dir"] = default_output_dir(command, merged, job)
    sections, problems = validate(command, merged)
    if problems:
        raise ConfigError(_message(command, problems))
    config = schema.COMMANDS[command](**sections)
    warned = cast("schema.CommandConfig", config)
    for warning in [*differences, *settings_warnings(warned, parse_words(words).keys)]:
        log.warning("%s", warning)
    return config


def validate(
    command: str, plain: Mapping[str, Any], refused: Collection[str] = ()
) -> tuple[Sections, list[str]]:
    """Typed sections, where sound, and a sentence for each mistake in or between them.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the merged configuration; `output_dir` may still be None.
        refused: groups and keys whose typed value was refused already; what stands in their place
            is not judged.
    """
    sections, problems = type_sections(command, plain, refused)
    unread = {key: UNREAD for key in ("ckpt", "output_dir") if key in refused}
    return sections, problems + rule_problems(command, sections | unread)


def type_sections(
    command: str, plain: Mapping[str, Any], refused: Collection[str] = ()
) -> tuple[Sections, list[str]]:
    """The first half of `validate`: each section alone, without the rules between them."""
    fields = schema.COMMANDS[command].model_fields
    missing = [key for key, value in leaves(plain).items() if value == "???"]
    problems = [f"{key} is required: add {key}=VALUE" for key in missing if key not in refused]
    incomplete = {key.split(".")[0] for key in missing}
    elsewhere = {*command_groups(command), *schema.COMMANDS[command].unused}
    unknown = [key for key in plain if key not in fields and key not in elsewhere]
    problems += [f"there is no key {key}{suggest(key, fields)}" for key in unknown]
    sections: Sections = {}
    for name in fields:
        value = plain.get(name)
        if name in refused or name in incomplete or (name == "output_dir" and value is None):
            continue
        if name == "data" and isinstance(value, Mapping) and value.get("train") is not None:
            trained_on, mistakes = _typed_training(command, value["train"])
            problems += mistakes
            if mistakes:
                continue
            value = {**value, "train": trained_on}
        try:
            sections[name] = _typed_section(command, name, value)
        except ConfigError as error:
            problems.append(str(error))
        except ValidationError as error:
            problems += _sentences(name, value, error)
    return sections, problems


def numbered(problems: Iterable[str]) -> str:
    """Mistakes as lines of a message."""
    return "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, 1))


def _message(command: str, problems: list[str]) -> str:
    """One text that names all mistakes."""
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    return (
        f"{command}.py did not start, its configuration has {count}:{numbered(problems)}\n"
        f"Nothing was written. `python {command}.py --help` lists groups, `--cfg job` prints all "
        "keys; the files in configs/ explain them."
    )


def _with_stored_groups(command: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Adds the groups that a checkpoint on the command line was made with; and its mistakes."""
    line = parse_words(words)
    ckpt = next(
        (o for o in line.overrides if o.key_or_group == "ckpt" and not o.is_sweep_override()), None
    )
    if ckpt is None or ckpt.value() is None or command not in SECTIONS:
        return words, []
    try:
        stored = stored_config(local_or_hub(str(ckpt.value())))
    except TmkeError as error:
        return words, [str(error)]
    conflicts = experiment_conflicts(stored, line)
    return [*words, *stored_groups(stored, command, line.keys)], conflicts


def _with_fitting_experiment(command: str, words: list[str]) -> list[str]:
    """Adds the experiment whose settings fit the model, for an edit that names none."""
    line = parse_words(words)
    if command != "edit" or {"experiment", "ckpt"} & line.keys:
        return words
    typed = {o.key_or_group: o.value() for o in line.overrides if not o.is_sweep_override()}
    name = typed.get("model.name") or typed.get("model") or default_options(command)["model"]
    experiment = fitting_experiment(str(name))
    # First, so that it wins over nothing that was typed.
    return words if experiment is None else [f"experiment={experiment}", *words]


def _under_checkpoint(
    command: str, plain: dict[str, Any], words: Iterable[str]
) -> tuple[dict[str, Any], list[str]]:
    """The configuration with a checkpoint's settings under what was typed, and what differs.

    A checkpoint on a hub is named with its commit: that is what a result is of.
    """
    if not plain.get("ckpt") or command not in SECTIONS:
        return dict(plain), []
    ckpt = pinned(str(plain["ckpt"]))
    return merge_stored(
        command, {**plain, "ckpt": ckpt}, stored_config(ckpt), parse_words(words).keys
    )


def _typed_section(command: str, name: str, value: Any) -> Any:
    """One section as its typed object.

    Raises:
        ConfigError: the section's `name` names nothing.
        ValidationError: a key or value is not what its class says.
    """
    option = str(value.get("name")) if isinstance(value, Mapping) else "None"
    if name == "editor":
        if value is None and command == "edit":  # an edit that was saved has its own
            return None
        if value is None:
            raise ConfigError("choose what to evaluate: editor=NAME, or ckpt=FILE of a trained one")
        return registration(option).options.model_validate(value)
    if name == "data":
        return source_options(option).model_validate(value)
    if name == "metrics" and command == "train":  # the group has the keys of evaluations too
        options = schema.MetricOptions.model_validate(value)
        return schema.ComparedPositions(positions=options.positions)
    field = schema.COMMANDS[command].model_fields[name]
    kind: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return adapter.validate_python(value, strict=True)


def _typed_training(command: str, value: object) -> tuple[Any, list[str]]:
    """The options of `data.train`, and a sentence for each mistake in them."""
    try:
        return _typed_section(command, "data", value), []
    except ConfigError as error:
        return None, [str(error).replace("data.name=", f"{TRAIN}=")]
    except ValidationError as error:
        return None, _sentences(TRAIN, value, error)


def _sentences(section: str, value: object, error: ValidationError) -> list[str]:
    """One sentence for each key that pydantic rejects; branches of a union are joined."""
    by_key: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        is_missing = item["type"] == "missing"
        key, rejected = _locate(section, value, item["loc"], is_missing=is_missing)
        if item["type"] == "extra_forbidden":
            text = f"there is no key {key}{_close(key, section, value, error)}"
        elif is_missing:
            text = f"{key} is required: add {key}=VALUE"
        else:
            reason = item["msg"].removeprefix("Value error, ")
            text = f"{key}={rejected}: {reason[0].lower()}{reason[1:]}"
        by_key.setdefault(key, []).append(text)
    return [_join(texts) for texts in by_key.values()]


def _join(texts: list[str]) -> str:
    """Messages about one value as one: 'x=1: should be A or B'."""
    head, *rest = dict.fromkeys(texts)
    return " or ".join([head, *(text.partition(": ")[2] for text in rest)])


def _locate(
    section: str, value: object, location: tuple[int | str, ...], *, is_missing: bool
) -> tuple[str, object]:
    """Follows an error's location as far as it names keys, not branches of a union."""
    names = [section]
    for i, part in enumerate(location):
        is_new_key = is_missing and i == len(location) - 1
        if isinstance(value, Mapping) and (part in value or is_new_key):
            value = value.get(str(part))
        elif isinstance(value, list) and isinstance(part, int):
            value = value[part]
        else:
            break
        names.append(str(part))
    return ".".join(names), value


def _close(key: str, section: str, value: object, error: ValidationError) -> str:
    """Suggests keys beside a wrong one that are not wrong themselves."""
    wrong = {".".join([section, *map(str, item["loc"])]) for item in error.errors()}
    known = [name for name, _ in dotted(value, f"{section}.")] if isinstance(value, Mapping) else []
    parent = key.rpartition(".")[0]
    return suggest(key, [k for k in known if k not in wrong and k.rpartition(".")[0] == parent])
