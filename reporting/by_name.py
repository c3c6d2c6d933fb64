"""What one run tells of questions that a name was put into, beside asking the picture at once."""

from collections.abc import Iterable

from metrics.name_first import CHAIN, CHAIN_GAIN, EDIT_GAIN
from reporting.formats import EMPTY, plain_text
from reporting.labels import UNEDITED, arrow
from reporting.pairs import difference_cell
from reporting.paper import paper_columns
from results.folder import RunResult

BY_NAME = (
    "Metric",
    "At once",
    "By name",
    "Gain",
    "Gain of the edit",
    "n",
)
AT_ONCE_NOTE = (
    "At once: the metric over all its records and probes, also those that were not asked by a "
    "name, as the far question of Locality_I; the difference to it may be another number than the "
    "gain."
)


def by_name_lines(run: RunResult) -> list[tuple[str, ...]]:
    """Answers to questions that a name was put into, beside the direct ones, as they are printed.

    Returns:
        A line per metric, `BY_NAME`, an element each; none where the run asked none.
    """
    lines = []
    for name in named_first(run.variants, run.scenario):
        named, gain = run.variants[f"{name}{CHAIN}"], run.variants.get(f"{name}_{CHAIN_GAIN}")
        shown = [
            EMPTY if value is None or not value.n else f"{value.mean:.1f}"
            for value in (run.metrics.get(name), named)
        ]
        gained = EMPTY if gain is None or not gain.n else f"{gain.mean:+.1f}"
        of_edit = None if run.editor == UNEDITED else run.variants.get(f"{name}_{EDIT_GAIN}")
        added = plain_text(difference_cell(of_edit))
        lines.append((arrow(name), *shown, gained, added, str(named.n)))
    return lines


def named_first(variants: Iterable[str], scenario: str) -> list[str]:
    """The paper's columns that were asked by a name, and the leak."""
    found = set(variants)
    return [name for name in (*paper_columns(scenario), "Leak") if f"{name}{CHAIN}" in found]
