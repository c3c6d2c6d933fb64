"""Runs held against the paper's figures, cell by cell: what `report.py --check` prints.

A cell passes if |ours - paper| <= the tolerance of `paper_tables.json` (points), at the precision
that the paper prints. A run that was not made as the paper's runs passes nothing.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from metrics.bootstrap import Estimate
from reporting.formats import EMPTY, plain_text
from reporting.labels import SCENARIOS, editor_label, model_label
from reporting.paper import deviations, paper_row, paper_tables
from reporting.tables import metric_cell
from results.folder import RunResult

PASS, FAIL = "pass", "fail"
NOT_COMPARABLE, NO_PAPER_ROW = "not comparable", "no paper row"
_COLOURS = {PASS: "green", FAIL: "red"}


@dataclass(frozen=True)
class CheckedCell:
    """One number of a run beside the paper's.

    Attributes:
        ours: mean with its interval, in percent; None where the run has no such metric.
        paper: the published figure, in percent.
        is_comparable: whether the run was made as the paper's.
    """

    metric: str
    ours: Estimate | None
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
class CheckedRun:
    """A run beside its row of the paper.

    Attributes:
        cells: in the paper's order; none where the paper has no such row.
        reasons: why the run cannot be held against the paper, a phrase each.
    """

    run: RunResult
    cells: tuple[CheckedCell, ...]
    reasons: tuple[str, ...] = ()

    @property
    def passes(self) -> bool:
        """Whether there is a row to compare with and all its cells pass."""
        return bool(self.cells) and all(cell.verdict == PASS for cell in self.cells)


def check_run(run: RunResult) -> CheckedRun:
    """Holds a run of any model and editor against the paper."""
    published = paper_row(run)
    if published is None:
        where = f"{run.editor} on {run.model} in the {run.scenario} scenario"
        return CheckedRun(run, (), (f"{NO_PAPER_ROW} for {where}",))
    reasons = tuple(deviations(run))
    cells = tuple(
        CheckedCell(metric, run.metrics.get(metric), paper, is_comparable=not reasons)
        for metric, paper in published.items()
    )
    return CheckedRun(run, cells, reasons)


def checked_as_text(checked_runs: Sequence[CheckedRun]) -> RenderableType:
    """A table per run and a last line that counts, for the terminal."""
    parts = [part for checked in checked_runs for part in _run_parts(checked)]
    return Group(*parts, _count(checked_runs))


def _run_parts(checked: CheckedRun) -> Iterator[RenderableType]:
    run = checked.run
    number = SCENARIOS.index(run.scenario) + 1
    title = (
        f"Table {number} ({run.scenario}), {model_label(run.model)}, {editor_label(run.editor)}: "
        f"{run.n_edits} edits"
    )
    if not checked.cells:
        yield Text(f"{title}\n{checked.reasons[0]}\n{run.folder}\n")
        return
    table = Table(title=Text(title), caption=Text(str(run.folder)), title_justify="left")
    table.add_column("Metric", no_wrap=True)
    for name in ("Ours", "Paper", "Difference", "Tolerance"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    for cell in checked.cells:
        off = EMPTY if cell.difference is None else f"{cell.difference:+.1f}"
        table.add_row(
            cell.metric,
            plain_text(metric_cell(cell.ours)),
            f"{cell.paper:.1f}",
            off,
            f"{paper_tables()['tolerance']:.1f}",
            Text(cell.verdict, style=_COLOURS.get(cell.verdict, "yellow")),
        )
    yield table
    if checked.reasons:
        yield Text(f"{NOT_COMPARABLE}: {'; '.join(checked.reasons)}\n")


def _count(checked_runs: Sequence[CheckedRun]) -> Text:
    verdicts = [cell.verdict for checked in checked_runs for cell in checked.cells]
    parts = [f"{verdicts.count(PASS)} of {len(verdicts)} cells pass"]
    parts += [
        f"{count} {name}" for name in (FAIL, NOT_COMPARABLE) if (count := verdicts.count(name))
    ]
    without = sum(not checked.cells for checked in checked_runs)
    if without:
        parts.append(f"{without} of {len(checked_runs)} runs have {NO_PAPER_ROW}")
    return Text("; ".join(parts))
