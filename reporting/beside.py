"""What one run tells beside its metrics: what they are above, and what the model read before.

A figure is above a floor by its gain over the unedited model and by its specificity
(`metrics.headlines.floors_of`); its parts are over pictures that this model read and did not read.
"""

from collections.abc import Iterable

from metrics.headlines import EM, FIRST, GAIN, PARTS, SPECIFICITY, floors_of
from metrics.seeds import Measured
from reporting.entries import Entry
from reporting.formats import EMPTY, plain_text
from reporting.labels import arrow
from reporting.tables import metric_cell, points_cell
from results.folder import RunResult

PART_TITLES = {"read": "Read", "unread": "Not read", "named": "Named", "unnamed": "Not named"}
ABOVE = ("Metric", "Gain", SPECIFICITY, "First token", "Exact match")
BY_PICTURE = ("Metric", *(f"{title} (n)" for title in PART_TITLES.values()))


def above_lines(run: RunResult, names: Iterable[str]) -> list[tuple[str, ...]]:
    """What some metrics of a run are above, as it is printed: `ABOVE`, an element each.

    Returns:
        A line per metric that has a gain or a specificity; none in results that do not say. A dash
        stands where a metric has no such floor, or no such measure.
    """
    told: dict[str, Measured] = {**Entry.of(run).metrics, **Entry.of(run).variants}
    lines = []
    for name in names:
        floors = {GAIN: f"{name}_{GAIN}", **floors_of(name)}
        differences = [told.get(floors.get(kind, "")) for kind in (GAIN, SPECIFICITY.lower())]
        if not any(differences):
            continue
        others = (told.get(f"{name}_{measure}") for measure in (FIRST, EM))
        points = (plain_text(points_cell(value)) for value in differences)
        lines.append((arrow(name), *points, *(metric_cell(value).text for value in others)))
    return lines


def part_lines(run: RunResult, names: Iterable[str]) -> list[tuple[str, ...]]:
    """Parts of some metrics over pictures that were read: `BY_PICTURE`, an element each.

    Returns:
        A line per metric; none in results that do not say, and of a scenario in text.
    """
    lines = []
    for name in names:
        parts = [run.variants.get(f"{name}_{part.suffix}") for part in PARTS]
        if any(parts):
            of_parts = (
                f"{part.mean:.1f} ({part.n})" if part is not None and part.n else EMPTY
                for part in parts
            )
            lines.append((arrow(name), *of_parts))
    return lines
