"""Rows side by side: in which order, which may stand in one table, and which are ranked together.

A table compares rows that differ in the editor, its settings and the model alone. Rows that were
measured otherwise answer another question: they stand in a table only where a label of the command
line names them, and are then ranked and paired among themselves.
"""

from collections.abc import Hashable, Iterable, Sequence
from itertools import groupby

from errors import DataError
from reporting.entries import Entry, canonical, listed
from reporting.labels import editor_rank, model_rank, scenario_rank
from results.folder import PROTOCOLS

# A row that differs in one of these answers another question than the rows around it.
SHARED_BY_TABLE = (
    "data",
    "data_digest",
    "protocol",
    "prompt",
    "positions",
    "locality_i",
    "generation",
    "cluster",
)
# What was asked is compared per model: filtering by what a model knows gives each its own edits.
SHARED_BY_MODEL = ("model_digest", "n_edits", "probe_digest")


def in_order(entries: Sequence[Entry]) -> list[Entry]:
    """By scenario, model, what was measured, and editor, as the paper has them.

    Rows of one editor stay in the order in which they were given.
    """
    measures = list(dict.fromkeys(_measure(entry) for entry in entries))
    return sorted(
        entries,
        key=lambda entry: (
            scenario_rank(entry.scenario), model_rank(entry.model),
            measures.index(_measure(entry)), editor_rank(entry.editor),
        ),
    )  # fmt: skip


def by_model(entries: Sequence[Entry]) -> list[tuple[str, list[Entry]]]:
    """Models with their rows, both `in_order`."""
    ordered = sorted(in_order(entries), key=lambda entry: model_rank(entry.model))
    groups = groupby(ordered, key=lambda entry: entry.model)
    return [(model, list(group)) for model, group in groups]


def by_measure(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Rows that were asked and scored alike together, each group `in_order`.

    Within a group rows may be ranked and paired; between groups numbers mean something else.
    """
    groups = groupby(in_order(entries), key=lambda entry: (entry.model, _measure(entry)))
    return [list(group) for _, group in groups]


def check_comparable(entries: Sequence[Entry]) -> None:
    """Refuse rows that cannot share a table.

    Raises:
        DataError: two rows without a label differ in the data, its digest, the protocol, the
            prompt, the scored positions, the kind of locality or of generation; or two of one model
            in the model's digest, the number of edits or the digest of what was asked; or rows with
            a label in the protocol. The message names all differences with the folders.
    """
    plain = [entry for entry in entries if not entry.is_labelled]
    problems = list(_differences(plain, SHARED_BY_TABLE)) if plain else []
    for _, of_model in by_model(plain):
        problems += _differences(of_model, SHARED_BY_MODEL)
    problems = problems or list(_differences(entries, ("protocol",)))
    if problems:
        raise DataError(
            f"These runs of the {entries[0].scenario} scenario cannot share a table: "
            f"{'; '.join(problems)}. One table compares editors on the same data, prompt, "
            "questions, scoring, intervals and weights of the model: leave out the runs that do "
            "not belong, write one report for each with its own --output, or name those that "
            "differ on purpose with --label NAME=DIR."
        )


def check_measured_alike(entries: Sequence[Entry]) -> None:
    """Refuse rows of one model whose edits, few or many, were not asked and scored alike.

    Raises:
        DataError: two rows differ in the data's digest, the prompt, the scored positions, the kind
            of locality or of generation, what intervals draw or the model's digest; how many edits
            were made, and how, may differ. The message names all differences with the folders.
    """
    keys = [key for key in (*SHARED_BY_TABLE, "model_digest") if key != "protocol"]
    if problems := list(_differences(entries, keys)):
        raise DataError(
            f"These runs of {entries[0].model} in the {entries[0].scenario} scenario cannot be "
            f"ranked together: {'; '.join(problems)}. Leave out the runs that do not belong."
        )


def are_comparable(entries: Sequence[Entry]) -> bool:
    """Whether rows, also of several scenarios, agree in data, scoring and model."""
    return not list(_differences(entries, (*SHARED_BY_TABLE, "model", "model_digest")))


def measure_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """A note where rows of one table were not measured alike; none where all were."""
    keys = [
        key
        for key in (*SHARED_BY_TABLE, *SHARED_BY_MODEL)
        if any(_varies(group, key) for group in _compared_by(entries, key))
    ]
    if not keys:
        return ()
    phrases = []
    for key in keys:
        values: dict[str, dict[str, None]] = {}
        for entry in entries:
            values.setdefault(str(entry.fact(key)), {})[entry.name] = None
        of_values = (f"{value} ({listed(names)})" for value, names in values.items())
        phrases.append(f"{key.replace('_', ' ')} is {' and '.join(of_values)}")
    return (
        f"Not measured alike: {'; '.join(phrases)}. Only rows that were are ranked and paired with "
        "each other.",
    )


def split_protocols(
    entries: Sequence[Entry],
) -> tuple[tuple[Entry, ...], dict[str, tuple[Entry, ...]]]:
    """Rows of single edits, which stand in tables, and those of many, which are shown as curves.

    Returns:
        The single ones, and the others by their protocol. All keep their order; any may be empty.
    """
    single, *others = (
        tuple(entry for entry in entries if entry.protocol_name == name) for name in PROTOCOLS
    )
    return single, dict(zip(PROTOCOLS[1:], others, strict=True))


def data_and_seeds(entries: Sequence[Entry]) -> str:
    """What a title says of them: `data world, seed 0`; seeds only where all rows have the same."""
    data = ", ".join(dict.fromkeys(entry.first.data for entry in entries))
    seeds = {entry.seeds for entry in entries}
    return f"data {data}, {seeds.pop()}" if len(seeds) == 1 else f"data {data}"


def _measure(entry: Entry) -> Hashable:
    """Equal for rows of one model that were asked and scored alike."""
    return canonical([entry.fact(key) for key in (*SHARED_BY_TABLE, *SHARED_BY_MODEL)])


def _compared_by(entries: Sequence[Entry], key: str) -> list[list[Entry]]:
    """The groups within which a fact has to agree."""
    if key in SHARED_BY_TABLE:
        return [list(entries)]
    return [of_model for _, of_model in by_model(entries)]


def _varies(entries: Sequence[Entry], key: str) -> bool:
    return len({canonical(entry.fact(key)) for entry in entries}) > 1


def _differences(entries: Sequence[Entry], keys: Iterable[str]) -> Iterable[str]:
    """For each fact in which a row differs from the first one, a phrase that names both."""
    first = entries[0]
    for key in keys:
        other = next((entry for entry in entries if entry.fact(key) != first.fact(key)), None)
        if other is not None:
            yield (
                f"{key} is {first.fact(key)!r} in {first.folder} but {other.fact(key)!r} in "
                f"{other.folder}"
            )
