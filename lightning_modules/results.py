"""Writes the folder of a finished evaluation (`reporting.results` says what is in it)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_modules.partial import told_how_to_go_on
from reporting.results import (
    CURVE,
    CURVE_SCHEMA,
    PROBE_SCHEMA,
    PROBES,
    parse_summary,
    write_edits,
    write_rows,
    write_summary,
    write_table,
)
from reporting.tables import run_markdown

Rows = Sequence[Mapping[str, object]]


def write_result(
    folder: Path,
    summary: Mapping[str, Any],
    rows: Rows,
    probes: Iterable[Mapping[str, object]],
    curve: Rows = (),
) -> None:
    """Writes all files of a result; summary.json comes last and says that the run is finished.

    Args:
        folder: of the run.
        summary: content of summary.json.
        rows: lines of edits.parquet.
        probes: lines of probes.parquet.
        curve: lines of curve.parquet, which single edits have not.

    Raises:
        DataError: the summary would not be accepted by its reader, or a file cannot be written.
    """
    run = parse_summary(summary, folder)
    with told_how_to_go_on(folder):
        write_edits(folder, rows)
        write_rows(folder / PROBES, PROBE_SCHEMA, probes)
        if curve:
            write_rows(folder / CURVE, CURVE_SCHEMA, curve)
        write_table(folder, run_markdown(run))
        write_summary(folder, summary)
