"""The report of a check on the screen."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from datamodules.checking.report import Report

_SHOWN = 3  # examples of a finding


def show(report: Report, console: Console) -> None:
    """Prints what is in each split, and what is wrong."""
    console.print(f"{report.source}: {report.origin}, licence: {report.licence}", soft_wrap=True)
    table = Table()
    for name in ("split", "records", "subjects"):
        table.add_column(name, justify="left" if name == "split" else "right")
    for split, counts in report.splits.items():
        table.add_row(split, f"{counts.records:,}", f"{counts.subjects:,}")
    console.print(table)
    for finding in report.problems:
        console.print(
            f"{finding.split}: {finding.count:,} of {finding.of:,} {finding.what}", soft_wrap=True
        )
        for example in finding.examples[:_SHOWN]:
            console.print(f"  {example}", soft_wrap=True)
