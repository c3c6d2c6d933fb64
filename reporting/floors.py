"""Which figures of an edited answer stand above a floor, and which cannot be told from one.

A figure says that an edit arrived where it is higher than what is there without it: than what the
unedited model scores on the same probe (the gain), and than what the new answer scores about
somebody else (the specificity; `metrics.headlines.floors_of`, and of answers by way of a name
`metrics.name_first.floors_by_name`). Each is a mean of differences within
records, and its figure is marked where the 95 % interval of that mean does not lie above 0:

    mark(M)  where  low(M - floor) <= 0

A mark does not say that an edit did nothing: with few records an interval is wide.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd

from metrics.bootstrap import Estimate
from metrics.headlines import GAIN, SPECIFICITY, floors_of
from metrics.name_first import CHAIN, floors_by_name
from metrics.seeds import OverSeeds, difference_over_seeds
from reporting.clusters import Clusters
from reporting.entries import Entry
from reporting.formats import NO_GAIN, NOT_SPECIFIC
from reporting.labels import UNEDITED
from reporting.pairs import ROUNDING, entry_scores
from results.folder import RunResult


class Floor(NamedTuple):
    """A floor as it is told: its mark behind a figure, and what that says below a table."""

    mark: str
    says: str


FLOORS = {
    GAIN: Floor(
        NO_GAIN,
        "not told from the unedited model: the 95 % interval of the gain over it does not lie "
        "above 0.",
    ),
    SPECIFICITY.lower(): Floor(
        NOT_SPECIFIC,
        "not told from an answer that everybody gets: the 95 % interval of the specificity, the "
        "figure minus what the new answer scores about an entity of the same type (of a gain: by "
        "how much more than for the unedited model), does not lie above 0.",
    ),
}


def floor_marks(entry: Entry, names: Iterable[str]) -> dict[str, str]:
    """The marks of a row's figures.

    Args:
        entry: any row; the unedited model's figures are a floor themselves and have no mark.
        names: of metrics.

    Returns:
        The marks of each figure that has one. A figure whose floor the results do not have, since
        they are older or no record has the probe, has none.

    Raises:
        DataError: a table of a row of several seeds cannot be read.
    """
    return _marks(entry, names, partial(_difference, entry))


def floor_marks_of(
    entry: Entry, names: Iterable[str], scores_of: Callable[[RunResult], pd.DataFrame]
) -> dict[str, str]:
    """The marks of figures that no summary has the floors of, as the points of a curve.

    Args:
        entry: as for `floor_marks`.
        names: of metrics.
        scores_of: the scores of a run, a line per edit and a column per metric and floor; a column
            that is not there is a floor that the results do not have.

    Returns:
        As `floor_marks`, of the same draws.
    """

    def difference(floor: str) -> Estimate | None:
        table = entry_scores(entry, floor, scores_of)
        return None if table.empty else over_records(entry, table)

    return _marks(entry, names, difference)


def _marks(
    entry: Entry, names: Iterable[str], difference_of: Callable[[str], Estimate | None]
) -> dict[str, str]:
    """The marks of figures whose differences from their floors have intervals that reach 0."""
    marks: dict[str, str] = {}
    for name in names if entry.editor != UNEDITED else ():
        for kind, floor in _floors(name).items():
            difference = difference_of(floor)
            if difference is not None and difference.has_interval and difference.low <= ROUNDING:
                marks[name] = marks.get(name, "") + FLOORS[kind].mark
    return marks


def _floors(name: str) -> dict[str, str]:
    """Those of a metric, also of one whose probes are asked by a name."""
    direct = name.removesuffix(CHAIN)
    return floors_of(name) if direct == name else floors_by_name(direct)


def floor_notes(marks: Iterable[str]) -> tuple[str, ...]:
    """What the marks of a table say, a note each; nothing where there are none."""
    used = set("".join(marks))
    return tuple(f"{floor.mark} {floor.says}" for floor in FLOORS.values() if floor.mark in used)


def seen_columns(entries: Sequence[Entry], published: Sequence[str]) -> tuple[str, ...]:
    """What stands beside the paper's columns of a table with pictures.

    Gain, specificity, first token and exact match of Reliability on the seen picture, as far as a
    row has them.
    """
    seen = "Reliability_S"
    if seen not in published:
        return ()
    names = (f"{seen}_{GAIN}", f"{SPECIFICITY}_S", f"{seen}_first", f"{seen}_EM")
    return tuple(name for name in names if any(_has(entry, name) for entry in entries))


def _has(entry: Entry, name: str) -> bool:
    value = entry.metrics.get(name) or entry.variants.get(name)
    return value is not None and value.n > 0


def _difference(entry: Entry, name: str) -> Estimate | None:
    """A figure minus its floor, with an interval over records and, of several, over seeds."""
    value = entry.metrics.get(name) or entry.variants.get(name)
    if value is None or value.n == 0:
        return None
    if isinstance(value, OverSeeds):
        return over_records(entry, entry_scores(entry, name))
    return value


def over_records(entry: Entry, table: pd.DataFrame) -> Estimate:
    """The mean of differences, a line a record and a column a run, with its interval.

    Args:
        entry: whose seed and clusters the draws are of.
        table: in points.
    """
    return difference_over_seeds(
        table.to_numpy().T,  # (seeds, records)
        np.zeros((1, len(table))),
        seed=entry.first.seed,
        clusters=Clusters(entry.first).of(table.index),
    )
