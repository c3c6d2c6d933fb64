"""The paper's Tables 1-3, and what a run must have in common with them to be held against them."""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

from reporting.labels import PAPER_MODELS, paper_editor
from results.folder import RunResult

PAPER_TABLES = Path(__file__).with_name("paper_tables.json")
TRAINED = ("mend", "serac")
_COLUMNS_LIKE: dict[str, tuple[str, tuple[str, ...]]] = {
    "reverse": ("unimodal", ()),
    "joint": ("multimodal", ("Reliability_T", "Generality_T", "Portability_T", "Stability_T")),
}


@cache
def paper_tables() -> dict[str, Any]:
    """The paper's figures and how they are compared.

    Returns:
        By scenario {"columns": [...], "rows": {model: {editor: [...]}}} in percent; "tolerance",
        the points by which a reproduction may differ; "records", the sizes of the test set and of
        its public part; "as_published", the facts of a run that the paper's runs have; and
        "recorded", what is known of rows whose records are public.
    """
    tables: dict[str, Any] = json.loads(PAPER_TABLES.read_text(encoding="utf-8"))
    return tables


def paper_columns(scenario: str) -> tuple[str, ...]:
    """The metrics of the paper's table, in its order.

    A scenario that the paper does not have has the columns of the one that asks what it asks.
    """
    alike, further = _COLUMNS_LIKE.get(scenario, (scenario, ()))
    return (*paper_tables()[alike]["columns"], *further)


def score_of(run: RunResult, metric: str | None) -> float | None:
    """One number for a run, in percent; more is better where the metric says so.

    Args:
        run: the result.
        metric: its name; None: the mean of the paper's columns that were measured.

    Returns:
        None where nothing of it was measured.
    """
    names = paper_columns(run.scenario) if metric is None else (metric,)
    measured = [run.metrics[name].mean for name in names if name in run.metrics]
    means = [mean for mean in measured if not math.isnan(mean)]
    return sum(means) / len(means) if means else None


def paper_row(run: RunResult) -> dict[str, float] | None:
    """The paper's figures for a run's scenario, model and editor, in percent by metric.

    Returns:
        None where the paper has no such row: another scenario, model or method, a variant of one,
        or ROME on pictures.
    """
    table = paper_tables().get(run.scenario, {"rows": {}})
    rows = table["rows"].get(PAPER_MODELS.get(run.model), {})
    figures = rows.get(paper_editor(run.editor))
    return None if figures is None else dict(zip(paper_columns(run.scenario), figures, strict=True))


def deviations(run: RunResult) -> list[str]:
    """In what a run was made otherwise than the paper's, a phrase each.

    Compared are the data, the number of records, the protocol, the prompt, how locality is scored,
    whether the model was quantised, and the length and rate of a training (Tables 5 and 6; FT was
    run otherwise than its Table 4 says) and where its loss compares. Other options of an editor are
    not: experiment=tmke sets them.

    Returns:
        Nothing if the run's figures may be held against the paper's.
    """
    facts = {key: (run.fact(key), value) for key, value in paper_tables()["as_published"].items()}
    facts |= _training_facts(run)
    differing = [
        f"{key} is {value!r}, published {published!r}"
        for key, (value, published) in facts.items()
        if value != published
    ]
    sizes = paper_tables()["records"]
    if run.n_edits not in sizes.values():
        known = " or ".join(f"{size:,} ({name})" for name, size in sizes.items())
        differing.append(f"n_edits is {run.n_edits:,}, published {known}")
    return differing


def _training_facts(run: RunResult) -> dict[str, tuple[object, object]]:
    """Length and rate of a learned editor's training: (the run's, the paper's)."""
    tabulated = paper_tables()["settings"].get(PAPER_MODELS.get(run.model), {})
    published = tabulated.get(paper_editor(run.editor)) if run.editor in TRAINED else None
    if published is None:
        return {}
    options, training = run.settings.get("editor"), run.settings.get("training")
    ours = options if isinstance(options, dict) else {}
    facts: dict[str, tuple[object, object]] = {
        f"editor.{key}": (ours.get(key), published[name])
        for key, name in (("max_iterations", "max_iter"), ("lr", "lr"))
    }
    if isinstance(training, dict):
        compared = (training.get("metrics") or {}).get("positions", "answer")  # once, always
        facts["training.metrics.positions"] = (
            compared,
            paper_tables()["as_published"]["positions"],
        )
    return facts
