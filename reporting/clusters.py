"""What the intervals of a result draw, and whether few targets stand behind its numbers.

An interval draws records, or all edits of one subject or of one target together
(`metrics.cluster`; `metrics.bootstrap`). `probes.parquet` says which edits those are.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from errors import DataError
from reporting.entries import Entry, listed
from reporting.formats import EMPTY
from reporting.kept import kept_while_unchanged
from results.files import PROBES
from results.folder import PROBE_SCHEMA, RunResult, read_rows

RECORD = "record"
ABOUT = ("relation", "target", "cluster")  # columns of the line `edit` of probes.parquet


def edits_of(run: RunResult) -> pd.DataFrame:
    """What `probes.parquet` says of the edits themselves.

    Returns:
        A line per edit by its number, with the columns of `ABOUT`; what is not told is None. Empty
        where the folder has no such file. Not to be changed: it is kept.

    Raises:
        DataError: the file cannot be read.
    """
    path = run.folder / PROBES
    if not path.is_file():
        return pd.DataFrame(columns=list(ABOUT))
    return _read_edits(path)


@kept_while_unchanged(maxsize=128)
def _read_edits(path: Path) -> pd.DataFrame:
    lines = read_rows(path, PROBE_SCHEMA, ("edit_id", "probe", *ABOUT))
    edits = lines[lines["probe"] == "edit"].drop_duplicates("edit_id").set_index("edit_id")
    return edits[list(ABOUT)].astype(object)


class Clusters:
    """Which edits of a run its intervals draw together.

    Raises:
        DataError: the run draws clusters, and nothing says which edits are of one.
    """

    def __init__(self, run: RunResult) -> None:
        self._of_edits: pd.Series | None = None
        if run.cluster == RECORD:
            return
        self._of_edits = edits_of(run)["cluster"].dropna()
        if len(self._of_edits) < run.n_edits:
            raise DataError(
                f"{run.folder} has intervals over {run.cluster}s (settings.cluster), but {PROBES} "
                "does not say for each edit what it is drawn together with; evaluate again with "
                "evaluate.py into a new folder."
            )

    def of(self, edits: Iterable[int]) -> list[str] | None:
        """Labels of some edits, equal where they are drawn together; None: each is drawn alone."""
        return None if self._of_edits is None else self._of_edits.loc[list(edits)].tolist()


def drawn_over(runs: Iterable[RunResult]) -> str:
    """What the intervals of some runs are over: `records`, or `records and targets`."""
    return " and ".join(f"{name}s" for name in dict.fromkeys(run.cluster for run in runs))


def intervals_over(entries: Iterable[Entry]) -> str:
    """The same of rows: `records`, or `records, and seeds where a row has several`."""
    entries = list(entries)
    over = drawn_over(run for entry in entries for run in entry.runs) or f"{RECORD}s"
    seeded = any(len(entry.runs) > 1 for entry in entries)
    return f"{over}, and seeds where a row has several" if seeded else over


def cluster_notes(entries: Iterable[Entry]) -> tuple[str, ...]:
    """What intervals draw where that is not records; nothing where all draw records."""
    return notes_of((entry.name, entry.first.cluster) for entry in entries)


def notes_of(clusters: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The same of rows by name and by what their intervals draw."""
    names: dict[str, dict[str, None]] = {}
    for name, cluster in clusters:
        names.setdefault(cluster, {})[name] = None
    notes = []
    for cluster, of_cluster in names.items():
        rows = f" of {listed(of_cluster)}" if len(names) > 1 else ""
        together = f"all edits of one {cluster} are drawn together (metrics.cluster={cluster})"
        notes.append(
            f"Intervals{rows} are over {cluster}s: {together}; where all are of one there is a "
            f"{EMPTY}."
        )
    return tuple(note for note, cluster in zip(notes, names, strict=True) if cluster != RECORD)


def target_notes(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Which rows few targets stand behind; nothing where none is, or no result says."""
    names: dict[str, dict[str, None]] = {}
    for entry in entries:
        if warning := target_warning(entry.first):
            names.setdefault(warning, {})[entry.name] = None
    if not names:
        return ()
    is_one = len(names) == 1 and len(next(iter(names.values()))) == len(entries)
    return tuple(w if is_one else f"{w} ({listed(of)})" for w, of in names.items())


def target_warning(run: RunResult) -> str:
    """A warning where few targets dominate a run's edits; empty where none does."""
    return "" if run.targets is None else run.targets.warning(run.cluster)
