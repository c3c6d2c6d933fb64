"""Turns a command line into a checked configuration, or into one message with all its mistakes.

    words -> judged one by one -> composed by Hydra -> under a checkpoint's settings, if any
          -> typed, section by section -> rules between sections -> RunConfig

Nothing here imports torch, so that a typing mistake is answered at once.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Annotated, Any

from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from pydantic import TypeAdapter, ValidationError

from configs import schema
from configs.overrides import (
    command_groups,
    compose_plain,
    first_words,
    flat_keys,
    hydra_ready,
    judge,
    parse,
    suggest,
    with_lists,
)
from configs.rules import Sections, rule_problems, settings_warnings, sweep_problems
from configs.rundir import default_output_dir
from configs.stored import (
    choices_of,
    experiment_conflicts,
    merge,
    stored_config,
)
from datamodules.source import source_options
from editors.registry import registration
from errors import ConfigError, TmkeError

log = logging.getLogger(__name__)


def load_config(command: str, words: Iterable[str] = ()) -> schema.RunConfig:
    """Composes and checks one configuration, as the entry points do.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: overrides as on the command line, without flags.

    Returns:
        The configuration class of that command.

    Raises:
        ConfigError: all mistakes in one message.
    """
    words = with_lists(words)
    with hydra_ready():
        words, problems = preflight(command, words)
        if problems:
            raise ConfigError(message(command, problems))
        plain = compose_plain(command, words)
    return build(command, plain, words)


def preflight(
    command: str,
    words: list[str],
    *,
    multirun: bool = False,
) -> tuple[list[str], list[str]]:
    """Finds every mistake of a command line before anything runs; needs `hydra_ready`.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        words: the command line without flags.
        multirun: whether lists of values are allowed; then every job of the sweep is checked.

    Returns:
        The words to give to Hydra (with the checkpoint's own groups added), and the mistakes.
    """
    typed = parse(words).good
    words, problems = _with_choices(command, words)
    unread = bool(problems)
    judged = judge(command, words, multirun=multirun)
    problems += judged.problems
    refused = {o.key_or_group for o in typed} - {o.key_or_group for o in judged.good}
    for job in _jobs(judged.good):
        try:
            merged = compose_plain(command, job)
        except (HydraException, OmegaConfBaseException) as error:
            problems.append(first_words(error))
            continue
        skip = refused | ({"editor"} if unread and merged.get("editor") is None else set())
        try:
            merged = _under_checkpoint(command, merged, job)[0]
        except TmkeError as error:
            problems.append(str(error))
            skip |= set() if unread else {"editor", "ckpt"}
        problems += validate(command, merged, skip)[1]
        problems += sweep_problems(merged, words) if multirun else []
    return words, list(dict.fromkeys(problems))


def build(
    command: str,
    plain: dict[str, Any],
    words: Iterable[str],
    *,
    job: int | None = None,
) -> schema.RunConfig:
    """Checks a composed configuration and makes the typed one.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the composed configuration, plain Python.
        words: the overrides it was composed with.
        job: number of this job in a sweep, None outside.

    Returns:
        The configuration class of that command.

    Raises:
        ConfigError: all mistakes in one message.
    """
    merged, notes = _under_checkpoint(command, plain, words)
    for note in notes:
        log.warning("%s", note)
    merged["output_dir"] = default_output_dir(command, merged, job)
    sections, problems = validate(command, merged)
    if problems:
        raise ConfigError(message(command, problems))
    config = schema.COMMANDS[command](**sections)
    for warning in settings_warnings(config, {o.key_or_group for o in parse(words).good}):
        log.warning("%s", warning)
    return config


def validate(
    command: str, plain: Mapping[str, Any], refused: Collection[str] = ()
) -> tuple[Sections, list[str]]:
    """Types every section on its own, then applies the rules between them.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the merged configuration; `output_dir` may still be None.
        refused: groups and keys whose typed value was refused already; what stands in their place
            is not judged.

    Returns:
        Typed sections, where sound, and a sentence for each mistake.
    """
    fields = schema.COMMANDS[command].model_fields
    missing = [key for key, value in leaves(plain) if value == "???"]
    problems = [f"{key} is required: add {key}=VALUE" for key in missing]
    incomplete = {key.split(".")[0] for key in missing}
    unknown = [key for key in plain if key not in fields and key not in command_groups(command)]
    problems += [f"there is no key {key}{suggest(key, fields)}" for key in unknown]
    sections: Sections = {}
    for name in fields:
        value = plain.get(name)
        if name in refused or name in incomplete or (name == "output_dir" and value is None):
            continue
        try:
            sections[name] = _typed(command, name, value)
        except ConfigError as error:
            problems.append(str(error))
        except ValidationError as error:
            problems += _sentences(name, value, error)
    return sections, problems + rule_problems(command, sections)


def message(command: str, problems: list[str]) -> str:
    """One text that names all mistakes."""
    count = "one mistake" if len(problems) == 1 else f"{len(problems)} mistakes"
    lines = "".join(f"\n  {i}. {problem}" for i, problem in enumerate(problems, 1))
    return (
        f"{command}.py did not start, its configuration has {count}:{lines}\n"
        f"Nothing was written. `python {command}.py --cfg job` prints all keys; the files in "
        "configs/ explain them."
    )


def _with_choices(command: str, words: list[str]) -> tuple[list[str], list[str]]:
    """Adds the groups that a checkpoint on the command line was made with."""
    parsed = parse(words).good
    ckpt = next((o for o in parsed if o.key_or_group == "ckpt" and not o.is_sweep_override()), None)
    if ckpt is None or ckpt.value() is None:
        return words, []
    try:
        stored = stored_config(str(ckpt.value()))
    except TmkeError as error:
        return words, [str(error)]
    typed = {o.key_or_group for o in parsed}
    conflicts = experiment_conflicts(stored, parsed)
    return [*words, *choices_of(stored, command, typed)], conflicts


def _under_checkpoint(
    command: str,
    plain: dict[str, Any],
    words: Iterable[str],
) -> tuple[dict[str, Any], list[str]]:
    """The configuration with a checkpoint's settings under what was typed, and what differs."""
    stored = stored_config(str(plain["ckpt"])) if plain.get("ckpt") else None
    return merge(command, plain, stored, parse(words).good) if stored else (dict(plain), [])


def _jobs(overrides: list[Override]) -> list[list[str]]:
    """The command lines of all jobs of a sweep; one without a sweep."""
    jobs: list[list[str]] = [[]]
    for override in overrides:
        if override.is_sweep_override():
            key = override.get_key_element()
            texts = [f"{key}={value}" for value in override.sweep_string_iterator()]
        else:
            texts = [str(override.input_line)]
        jobs = [[*job, text] for job in jobs for text in texts]
    return jobs


def _typed(command: str, name: str, value: Any) -> Any:
    """One section as its typed object.

    Raises:
        ConfigError: the section's `name` names nothing.
        ValidationError: a key or value is not what its class says.
    """
    chosen = value.get("name") if isinstance(value, Mapping) else None
    if name == "editor":
        if value is None:
            raise ConfigError("choose what to evaluate: editor=NAME, or ckpt=FILE of a trained one")
        return registration(str(chosen)).options.model_validate(value)
    if name == "data":
        return source_options(str(chosen)).model_validate(value)
    field = schema.COMMANDS[command].model_fields[name]
    kind: Any = Annotated[field.annotation, field]
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    return adapter.validate_python(value, strict=True)


def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted names and values of everything that is not a section."""
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _sentences(section: str, value: object, error: ValidationError) -> list[str]:
    """One sentence for each key that pydantic rejects; branches of a union are joined."""
    by_key: dict[str, list[str]] = {}
    for item in error.errors(include_url=False):
        where, found = _locate(section, value, item["loc"], missing=item["type"] == "missing")
        if item["type"] == "extra_forbidden":
            parent = where.rpartition(".")[0]
            text = f"there is no key {where}{_close(where, parent, section, value, error)}"
        elif item["type"] == "missing":
            text = f"{where} is required: add {where}=VALUE"
        else:
            text = f"{where}={found}: {item['msg'][0].lower()}{item['msg'][1:]}"
        by_key.setdefault(where, []).append(text)
    return [_join(texts) for texts in by_key.values()]


def _join(texts: list[str]) -> str:
    """Messages about one value as one: 'x=1: should be A or B'."""
    head, *rest = dict.fromkeys(texts)
    return " or ".join([head, *(text.partition(": ")[2] for text in rest)])


def _locate(
    section: str, value: object, loc: tuple[int | str, ...], *, missing: bool
) -> tuple[str, object]:
    """Follows an error's location as far as it names keys, not branches of a union."""
    names, found = [section], value
    for i, part in enumerate(loc):
        if isinstance(found, Mapping) and (part in found or (missing and i == len(loc) - 1)):
            found = found.get(str(part))
        elif isinstance(found, list) and isinstance(part, int):
            found = found[part]
        else:
            break
        names.append(str(part))
    return ".".join(names), found


def _close(where: str, parent: str, section: str, value: object, error: ValidationError) -> str:
    """Suggests keys beside a wrong one that are not wrong themselves."""
    wrong = {".".join([section, *map(str, e["loc"])]) for e in error.errors()}
    known = flat_keys(value, f"{section}.") if isinstance(value, Mapping) else []
    return suggest(where, [k for k in known if k not in wrong and k.rpartition(".")[0] == parent])
