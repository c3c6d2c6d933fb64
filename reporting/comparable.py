"""Which runs may stand in one table: those that differ in the editor and the model alone."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from errors import DataError
from reporting.labels import model_rank
from results.folder import SEQUENTIAL, RunResult

# A row that differs in one of these answers another question than the rows around it.
SHARED_BY_TABLE = (
    *("data", "data_digest", "seed", "protocol", "prompt"),
    *("positions", "locality_i", "generation"),
)
# What was asked is compared per model: filtering by what a model knows gives each its own edits.
SHARED_BY_MODEL = ("model_digest", "n_edits", "probe_digest")


def check_comparable(runs: Sequence[RunResult]) -> None:
    """Refuse runs that cannot share a table.

    Args:
        runs: of one scenario.

    Raises:
        DataError: two runs differ in the data, its digest, the seed, the protocol, the prompt, the
            scored positions, the kind of locality or of generation; two runs of one model in the
            model's digest, the number of edits or the digest of what was asked; or an editor comes
            twice. The message names all differences with the folders.
    """
    problems = list(_differences(runs, SHARED_BY_TABLE))
    for _, same_model in groupby(sorted(runs, key=_model), key=_model):
        members = list(same_model)
        problems += _differences(members, SHARED_BY_MODEL)
        problems += _repeated(members)
    if problems:
        raise DataError(
            f"These runs of the {runs[0].scenario} scenario cannot share a table: "
            f"{'; '.join(problems)}. One table compares editors on the same data, seed, prompt, "
            "questions, scoring and weights of the model: leave out the runs that do not belong, "
            "or write one report for each with its own --output."
        )


def share_facts(runs: Sequence[RunResult]) -> bool:
    """Whether runs, also of several scenarios, agree in data, seed, scoring and model."""
    return not list(_differences(runs, (*SHARED_BY_TABLE, "model", "model_digest")))


def split_protocols(
    runs: Sequence[RunResult],
) -> tuple[tuple[RunResult, ...], tuple[RunResult, ...]]:
    """Runs of single edits, which stand in tables, and sequential ones, which are shown as curves.

    Args:
        runs: of any scenarios and models.

    Returns:
        Both in the order in which they came; either may be empty.
    """
    sequential = tuple(run for run in runs if run.protocol_name == SEQUENTIAL)
    return tuple(run for run in runs if run.protocol_name != SEQUENTIAL), sequential


def _differences(runs: Sequence[RunResult], keys: Iterable[str]) -> Iterable[str]:
    """For each fact in which a run differs from the first one, a phrase that names both."""
    for key in keys:
        first = runs[0]
        for other in runs[1:]:
            if other.fact(key) != first.fact(key):
                yield (
                    f"{key} is {first.fact(key)!r} in {first.folder} but {other.fact(key)!r} in "
                    f"{other.folder}"
                )
                break


def _repeated(runs: Sequence[RunResult]) -> Iterable[str]:
    seen: dict[str, RunResult] = {}
    for run in runs:
        if run.editor in seen:
            yield (
                f"{run.editor} on {run.model} is both in {seen[run.editor].folder} and in "
                f"{run.folder}"
            )
        seen.setdefault(run.editor, run)


def _model(run: RunResult) -> tuple[int, str]:
    return model_rank(run.model)
