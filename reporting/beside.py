"""What one run tells beside its metrics: gains over the unedited model, and what that one read."""

from collections.abc import Iterable

from metrics.headlines import GAIN, PARTS
from reporting.formats import EMPTY
from reporting.labels import arrow
from results.folder import RunResult

PART_TITLES = {"read": "Read", "unread": "Not read", "named": "Named", "unnamed": "Not named"}
BESIDE = ("Metric", "Gain", *(f"{title} (n)" for title in PART_TITLES.values()))


def beside_lines(run: RunResult, names: Iterable[str]) -> list[tuple[str, ...]]:
    """What is told beside some metrics of a run, as it is printed: `BESIDE`, an element each.

    Returns:
        A line per metric; none in results that do not say. Of a scenario in text there are no
        pictures, and a line ends with the gain.
    """
    lines = []
    for name in names:
        gain = run.variants.get(f"{name}_{GAIN}")
        parts = [run.variants.get(f"{name}_{part.suffix}") for part in PARTS]
        if gain is None and not any(parts):
            continue
        of_parts = [
            f"{part.mean:.1f} ({part.n})" if part is not None and part.n else EMPTY
            for part in parts
        ]
        gained = f"{gain.mean:+.1f}" if gain is not None and gain.n else EMPTY
        lines.append((arrow(name), gained, *(of_parts if run.scenario != "unimodal" else ())))
    return lines
