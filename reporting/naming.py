"""Which runs are one row, and how rows are called.

Runs of one scenario, protocol, model and editor are one row if they agree in all settings; their
seeds then differ. Rows that would be called alike say in what they differ, in all scenarios alike,
so that a method is found again in the next table. A label, `--label NAME=DIR`, is used instead: it
is the name itself, or stands behind the editor's where it is given to several editors.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path

from errors import DataError
from reporting.entries import (
    CKPT,
    TRAINING,
    Entry,
    canonical,
    differing_keys,
    seeds_of,
    settings_of,
)
from reporting.labels import editor_label
from results.folder import RunResult

MOST_KEYS = 3  # settings in a name; the provenance has all
MOST_CHARACTERS = 24  # of a value in a name

_Runs = list[RunResult]


def entries(runs: Sequence[RunResult], labels: Mapping[Path, str] | None = None) -> list[Entry]:
    """The rows that some runs make, in the order of their first runs.

    Args:
        runs: of any scenarios, models and editors.
        labels: the labels of runs, by folder.

    Raises:
        DataError: two runs agree in all settings and seeds; a label is given to runs of one editor
            that differ in more than the seed; or two rows of one table have one name.
    """
    given = labels or {}
    labelled = [run for run in runs if run.folder in given]
    rest = [run for run in runs if run.folder not in given]
    named = _labelled(labelled, given) + _by_settings(rest)
    order = {run.folder: number for number, run in enumerate(runs)}
    named.sort(key=lambda entry: min(order[run.folder] for run in entry.runs))
    _check_names(named)
    return named


def add_to_name(name: str, text: str) -> str:
    """A name with something in brackets behind it.

    >>> add_to_name("FT", "lr=1"), add_to_name("FT (as run)", "lr=1")
    ('FT (lr=1)', 'FT (as run, lr=1)')
    """
    return f"{name[:-1]}, {text})" if name.endswith(")") else f"{name} ({text})"


def _labelled(runs: Sequence[RunResult], labels: Mapping[Path, str]) -> list[Entry]:
    """One row a label, scenario, protocol, model and editor."""
    editors: dict[str, set[str]] = {}
    for run in runs:
        editors.setdefault(labels[run.folder], set()).add(run.editor)
    rows = []
    for group in _grouped(runs, lambda run: (labels[run.folder], *_place(run), run.editor)):
        label = labels[group[0].folder]
        several = len(editors[label]) > 1
        name = add_to_name(editor_label(group[0].editor), label) if several else label
        if keys := differing_keys(group):
            raise DataError(
                f"The label {label!r} is given to runs of {_where(group[0])} that differ in more "
                f"than the seed: {_contrast(group, keys)}. A label names one row, whose runs "
                "differ in their seeds alone: give each of these a label of its own."
            )
        rows.append(Entry(name, _by_seed(group), is_labelled=True))
    return rows


def _by_settings(runs: Sequence[RunResult]) -> list[Entry]:
    """One row for runs that agree in all settings, called by its editor and what it needs."""
    rows = []
    for of_editor in _grouped(runs, lambda run: (run.model, run.editor)):
        tables = [
            _grouped(table, lambda run: canonical(settings_of(run)))
            for table in _grouped(of_editor, _place)
        ]
        keys = _differing_within(tables)
        texts = _texts([group[0] for table in tables for group in table], keys)
        for group in (group for table in tables for group in table):
            name = editor_label(group[0].editor)
            text = texts[group[0].folder]
            settings = settings_of(group[0])
            rows.append(
                Entry(
                    add_to_name(name, text) if text else name,
                    _by_seed(group),
                    differing={key: settings.get(key) for key in keys},
                )
            )
    return rows


def _differing_within(tables: Sequence[Sequence[_Runs]]) -> list[str]:
    """The settings that tell rows of one table apart, of all tables together."""
    keys: dict[str, None] = {}
    for table in tables:
        keys |= dict.fromkeys(differing_keys(group[0] for group in table))
    return list(keys)


def _texts(runs: Sequence[RunResult], keys: Sequence[str]) -> dict[Path, str]:
    """What is added to a row's name, by folder: the first few settings, or all if they are alike.

    Rows of several tables may be alike; `_check_names` looks at each table.
    """
    for shown in (keys[:MOST_KEYS], keys):
        texts = {run.folder: _text(run, runs, shown, len(keys)) for run in runs}
        different = {canonical([settings_of(run).get(key) for key in keys]) for run in runs}
        if len(set(texts.values())) == len(different):
            break
    return texts


def _text(run: RunResult, runs: Sequence[RunResult], keys: Sequence[str], total: int) -> str:
    """`lr=0.0001, training max_steps=10, …`; a key by its last word where that says which."""
    settings = settings_of(run)
    words = [_word(key) for key in keys]
    parts = [
        f"{key if words.count(word) > 1 else word}={_value(key, settings.get(key), run, runs)}"
        for key, word in zip(keys, words, strict=True)
    ]
    return ", ".join([*parts, "…"] if len(keys) < total else parts)


def _word(key: str) -> str:
    """What a setting is called in a name.

    >>> _word("editor.lr"), _word("training.trainer.max_steps"), _word("training.scenario.name")
    ('lr', 'training max_steps', 'training scenario')
    """
    word = key.removesuffix(".name").rpartition(".")[2]
    return f"{TRAINING} {word}" if key.startswith(f"{TRAINING}.") else word


def _value(key: str, value: object, run: RunResult, runs: Sequence[RunResult]) -> str:
    """A value as it is typed, as short as it can be and still be told from the others'."""
    if key == CKPT and settings_of(run)[CKPT] != Path(str(run.settings[CKPT])).name:
        return _tail(str(run.settings[CKPT]), [str(other.settings.get(CKPT)) for other in runs])
    full = typed(value)
    short = full[:MOST_CHARACTERS]
    others = {typed(settings_of(other).get(key)) for other in runs} - {full}
    is_clear = len(full) > MOST_CHARACTERS and all(not o.startswith(short) for o in others)
    return f"{short}…" if is_clear else full


def typed(value: object) -> str:
    """As on a command line.

    >>> typed(None), typed(True), typed(1e-6), typed([3, "a"])
    ('null', 'true', '1e-06', '[3,a]')
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(typed, value))}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tail(path: str, paths: Iterable[str]) -> str:
    """The end of a path from the last folder that tells it from the other paths.

    >>> _tail("runs/a/checkpoints/best.ckpt", ["runs/b/checkpoints/best.ckpt"])
    'a/checkpoints/best.ckpt'
    """
    parts = Path(path).parts
    others = [Path(other).parts for other in paths if other != path]
    for length in range(1, len(parts)):
        if all(other[-length:] != parts[-length:] for other in others):
            return str(Path(*parts[-length:]))
    return path


def _by_seed(group: _Runs) -> tuple[RunResult, ...]:
    """The runs of one row by their seeds.

    Raises:
        DataError: two of them have the same.
    """
    by_seeds: dict[tuple[int, ...], RunResult] = {}
    for run in group:
        seeds = seeds_of(run)
        other = by_seeds.setdefault(tuple(seeds.values()), run)
        if other is not run:
            of_both = ", ".join(f"{key}={value}" for key, value in seeds.items())
            raise DataError(
                f"{run.editor} on {run.model} is both in {other.folder} and in {run.folder}, with "
                f"the same settings and {of_both}: a seed counts once in a mean over seeds. Leave "
                "one of the folders out, or tell them apart with --label NAME=DIR for each."
            )
    return tuple(run for _, run in sorted(by_seeds.items(), key=lambda item: item[0]))


def _check_names(named: Sequence[Entry]) -> None:
    """Refuses two rows of one table with one name."""
    by_name: dict[tuple[str, ...], Entry] = {}
    for entry in named:
        other = by_name.setdefault((*_place(entry.first), entry.name), entry)
        if other is not entry:
            raise DataError(
                f"{entry.name!r} would be the name of two rows of the {entry.scenario} scenario "
                f"on {entry.model}: {other.folder} and {entry.folder}. Give one of them another "
                "name with --label NAME=DIR."
            )


def _place(run: RunResult) -> tuple[str, ...]:
    """The part of the report that a run stands in."""
    return run.scenario, run.protocol_name, run.model


def _where(run: RunResult) -> str:
    return f"{run.editor} on {run.model} in the {run.scenario} scenario"


def _contrast(group: Sequence[RunResult], keys: Iterable[str]) -> str:
    """For each setting two runs that differ in it."""
    phrases = []
    for key in keys:
        first = settings_of(group[0]).get(key)
        other = next(r for r in group if canonical(settings_of(r).get(key)) != canonical(first))
        phrases.append(
            f"{key} is {typed(first)} in {group[0].folder} but "
            f"{typed(settings_of(other).get(key))} in {other.folder}"
        )
    return "; ".join(phrases)


def _grouped(runs: Iterable[RunResult], key: Callable[[RunResult], Hashable]) -> list[_Runs]:
    """Runs with equal keys together, both in the order in which they come."""
    groups: dict[Hashable, _Runs] = {}
    for run in runs:
        groups.setdefault(key(run), []).append(run)
    return list(groups.values())
