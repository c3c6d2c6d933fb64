"""Runs side by side: in which order, and which may stand in one table.

A table compares runs that differ in the editor and the model alone.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

from errors import DataError
from reporting.labels import editor_rank, model_rank, scenario_rank
from results.folder import SEQUENTIAL, RunResult

# A row that differs in one of these answers another question than the rows around it.
SHARED_BY_TABLE = (
    *("data", "data_digest", "seed", "protocol", "prompt"),
    *("positions", "locality_i", "generation"),
)
# What was asked is compared per model: filtering by what a model knows gives each its own edits.
SHARED_BY_MODEL = ("model_digest", "n_edits", "probe_digest")


def in_order(runs: Sequence[RunResult]) -> list[RunResult]:
    """By scenario, model and editor, as the paper has them."""
    return sorted(
        runs,
        key=lambda run: (
            scenario_rank(run.scenario), model_rank(run.model), editor_rank(run.editor),
        ),
    )  # fmt: skip


def by_model(runs: Sequence[RunResult]) -> list[tuple[str, list[RunResult]]]:
    """Models with their runs, both `in_order`."""
    ordered = sorted(in_order(runs), key=lambda run: model_rank(run.model))
    return [(model, list(group)) for model, group in groupby(ordered, key=lambda run: run.model)]


def check_comparable(runs: Sequence[RunResult]) -> None:
    """Refuse runs that cannot share a table.

    Raises:
        DataError: two runs differ in the data, its digest, the seed, the protocol, the prompt, the
            scored positions, the kind of locality or of generation; two runs of one model in the
            model's digest, the number of edits or the digest of what was asked; or an editor comes
            twice. The message names all differences with the folders.
    """
    problems = list(_differences(runs, SHARED_BY_TABLE))
    for _, of_model in by_model(runs):
        problems += _differences(of_model, SHARED_BY_MODEL)
        problems += _repeated_editors(of_model)
    if problems:
        raise DataError(
            f"These runs of the {runs[0].scenario} scenario cannot share a table: "
            f"{'; '.join(problems)}. One table compares editors on the same data, seed, prompt, "
            "questions, scoring and weights of the model: leave out the runs that do not belong, "
            "or write one report for each with its own --output."
        )


def are_comparable(runs: Sequence[RunResult]) -> bool:
    """Whether runs, also of several scenarios, agree in data, seed, scoring and model."""
    return not list(_differences(runs, (*SHARED_BY_TABLE, "model", "model_digest")))


def split_protocols(
    runs: Sequence[RunResult],
) -> tuple[tuple[RunResult, ...], tuple[RunResult, ...]]:
    """Runs of single edits, which stand in tables, and sequential ones, which are shown as curves.

    Both keep their order; either may be empty.
    """
    sequential = tuple(run for run in runs if run.protocol_name == SEQUENTIAL)
    return tuple(run for run in runs if run.protocol_name != SEQUENTIAL), sequential


def _differences(runs: Sequence[RunResult], keys: Iterable[str]) -> Iterable[str]:
    """For each fact in which a run differs from the first one, a phrase that names both."""
    first = runs[0]
    for key in keys:
        other = next((run for run in runs if run.fact(key) != first.fact(key)), None)
        if other is not None:
            yield (
                f"{key} is {first.fact(key)!r} in {first.folder} but {other.fact(key)!r} in "
                f"{other.folder}"
            )


def _repeated_editors(runs: Sequence[RunResult]) -> Iterable[str]:
    folders: dict[str, Path] = {}
    for run in runs:
        if run.editor in folders:
            yield (
                f"{run.editor} on {run.model} is both in {folders[run.editor]} and in {run.folder}"
            )
        folders.setdefault(run.editor, run.folder)
