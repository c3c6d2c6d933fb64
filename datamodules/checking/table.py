"""The report of a check on the screen: a table for each split, then what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from datamodules.checking.report import Finding, Report, SplitReport
from datamodules.source import Split

_SHOWN = 3  # records of a finding
_COMMONEST = 5  # relations, types and targets
_LONGEST = 300  # characters of an example
_PICTURED = "reliability_s"  # the probe that every record with a picture has


def show(report: Report, console: Console) -> None:
    """Prints what is in each split, and what is wrong."""
    console.print(
        f"{report.source}: origin {report.origin}; licence {report.licence}", soft_wrap=True
    )
    for split, counts in report.splits.items():
        other = "" if counts.source == report.source else f" of data={counts.source}"
        console.print(
            f"{split}{other}: {counts.records:,} records about {counts.subjects:,} subjects, "
            f"{counts.pictures:,} pictures",
            soft_wrap=True,
        )
        console.print(_contents(counts))
    if report.splits:
        console.print(_probes(report.splits))
    _show_findings("problem", report.problems, console)
    _show_findings("note", report.notes, console)
    if not report.findings:
        console.print("Nothing is wrong.")


def _contents(counts: SplitReport) -> Table:
    """What the records of a split are about, and what they teach."""
    table = Table()
    for name in ("what", "number", "commonest: records that have it"):
        table.add_column(name, justify="right" if name == "number" else "left", overflow="fold")
    for name, n, of in (
        ("relations", len(counts.relations), counts.relations),
        ("types of entities", len(counts.types), counts.types),
        ("answers to teach", counts.targets, counts.commonest),
    ):
        if n:
            table.add_row(name, f"{n:,}", _first(of, n))
    return table


def _probes(splits: Mapping[Split, SplitReport]) -> Table:
    """Which probes how many records have, a column for each split."""
    table = Table()
    table.add_column("probe")
    for split in splits:
        table.add_column(split, justify="right")
    _add_probes(table, "in text", [counts.text_probes for counts in splits.values()])
    if any(_PICTURED in counts.picture_probes for counts in splits.values()):
        _add_probes(table, "pictures", [counts.picture_probes for counts in splits.values()])
    return table


def _add_probes(table: Table, where: str, of_splits: Sequence[Mapping[str, int]]) -> None:
    for name in dict.fromkeys(name for counts in of_splits for name in counts):
        table.add_row(f"{name}, {where}", *(f"{counts.get(name, 0):,}" for counts in of_splits))


def _first(counts: Mapping[str, int], of: int) -> str:
    shown = [f"{n:,}  {name}" for name, n in list(counts.items())[:_COMMONEST]]
    more = of - len(shown)
    return "\n".join(shown + ([f"and {more:,} more"] if more > 0 else []))


def _show_findings(kind: str, findings: Sequence[Finding], console: Console) -> None:
    """Each finding with its first few records."""
    style = "red" if kind == "problem" else "yellow"
    for finding in findings:
        console.print(Text.assemble((kind, style), f", {finding.split}: {finding}"), soft_wrap=True)
        for example in finding.first[:_SHOWN]:
            short = example if len(example) <= _LONGEST else f"{example[:_LONGEST]}..."
            console.print(f"  {short}", soft_wrap=True)
        if (more := len(finding.first) - _SHOWN) > 0:
            console.print(f"  and {more:,} more, which --json lists")
