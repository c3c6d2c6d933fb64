"""Runs held against the paper's figures, cell by cell: what `report.py --check` prints.

Ours is the run's mean or, where runs differ in their seeds alone, the mean over the seeds; each
seed's is shown beside it.

A cell passes if |ours - paper| <= the tolerance of `paper_tables.json` (points), at the precision
that the paper prints. A run that was not made as the paper's runs passes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metrics.seeds import Measured, OverSeeds
from reporting.entries import Entry
from reporting.formats import EMPTY, plain_text
from reporting.labels import PAPER_SCENARIOS, model_label
from reporting.paper import deviations, paper_row, paper_tables
from reporting.tables import metric_cell

PASS, FAIL = "pass", "fail"
NOT_COMPARABLE, NO_PAPER_ROW = "not comparable", "no paper row"
_COLOURS = {PASS: "green", FAIL: "red"}


@dataclass(frozen=True)
class CheckedCell:
    """One number of a row beside the paper's.

    Attributes:
        ours: mean with its interval or spread, in percent; None without such a metric.
        paper: the published figure, in percent.
        is_comparable: whether all runs were made as the paper's.
    """

    metric: str
    ours: Measured | None
    paper: float
    is_comparable: bool

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's in points, at the paper's precision; None without records."""
        if self.ours is None or self.ours.n == 0:
            return None
        return round(self.ours.mean - self.paper, 1)

    @property
    def verdict(self) -> str:
        """`PASS`, `FAIL` or `NOT_COMPARABLE`; a metric without records fails."""
        if not self.is_comparable:
            return NOT_COMPARABLE
        off = self.difference
        return PASS if off is not None and abs(off) <= paper_tables()["tolerance"] else FAIL


@dataclass(frozen=True)
class CheckedEntry:
    """A row, of one run or of several seeds, beside its row of the paper.

    Attributes:
        cells: in the paper's order; none where the paper has no such row.
        reasons: why it cannot be held against the paper, a phrase each.
    """

    entry: Entry
    cells: tuple[CheckedCell, ...]
    reasons: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether there is a row to compare with and all its cells pass."""
        return bool(self.cells) and all(cell.verdict == PASS for cell in self.cells)


def check_entry(entry: Entry) -> CheckedEntry:
    """Holds a row of any model and editor against the paper."""
    published = paper_row(entry.first)
    if published is None:
        where = f"{entry.editor} on {entry.model} in the {entry.scenario} scenario"
        return CheckedEntry(entry, (), (f"{NO_PAPER_ROW} for {where}",))
    reasons = tuple(dict.fromkeys(phrase for run in entry.runs for phrase in deviations(run)))
    cells = tuple(
        CheckedCell(metric, entry.metrics.get(metric), paper, is_comparable=not reasons)
        for metric, paper in published.items()
    )
    return CheckedEntry(entry, cells, reasons)


def checked_as_text(checked_entries: Sequence[CheckedEntry]) -> RenderableType:
    """A table per row and a last line that counts, for the terminal."""
    parts = [part for checked in checked_entries for part in _entry_parts(checked)]
    return Group(*parts, _count(checked_entries))


def _entry_parts(checked: CheckedEntry) -> Iterator[RenderableType]:
    entry, several = checked.entry, len(checked.entry.runs) > 1
    where = f"{entry.scenario.capitalize()} scenario"
    if entry.scenario in PAPER_SCENARIOS:
        where = f"Table {PAPER_SCENARIOS.index(entry.scenario) + 1} ({entry.scenario})"
    title = f"{where}, {model_label(entry.model)}, {entry.name}: {entry.n_edits} edits"
    if several:
        title += f", mean over {len(entry.runs)} seeds (SD: standard deviation between them)"
    folders = "\n".join(str(run.folder) for run in entry.runs)
    if not checked.cells:
        yield Text(f"{title}\n{checked.reasons[0]}\n{folders}\n")
        return
    table = Table(title=Text(title), caption=Text(folders), title_justify="left")
    table.add_column("Metric", no_wrap=True)
    for name in ("Ours", "Paper", "Difference", "Tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    if several:
        table.add_column(entry.seeds, justify="right")
    for cell in checked.cells:
        off = EMPTY if cell.difference is None else f"{cell.difference:+.1f}"
        table.add_row(
            cell.metric,
            plain_text(metric_cell(cell.ours)),
            f"{cell.paper:.1f}",
            off,
            f"{paper_tables()['tolerance']:.1f}",
            Text(cell.verdict, style=_COLOURS.get(cell.verdict, "yellow")),
            *([_of_each(cell.ours)] if several else []),
        )
    yield table
    if checked.reasons:
        yield Text(f"{NOT_COMPARABLE}: {'; '.join(checked.reasons)}\n")


def _of_each(value: Measured | None) -> str:
    """The mean of each seed's run."""
    return ", ".join(f"{m:.1f}" for m in value.means) if isinstance(value, OverSeeds) else EMPTY


def _count(checked_entries: Sequence[CheckedEntry]) -> Text:
    verdicts = [cell.verdict for checked in checked_entries for cell in checked.cells]
    parts = [f"{verdicts.count(PASS)} of {len(verdicts)} cells pass"]
    parts += [
        f"{count} {name}" for name in (FAIL, NOT_COMPARABLE) if (count := verdicts.count(name))
    ]
    without = sum(not checked.cells for checked in checked_entries)
    if without:
        parts.append(f"{without} of {len(checked_entries)} rows have {NO_PAPER_ROW}")
    return Text("; ".join(parts))
