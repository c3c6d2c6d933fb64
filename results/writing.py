"""Writes the folder of a finished evaluation (`results.folder` says what is in it)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metrics.bootstrap import Estimate
from results.files import CURVE, EDITS, PROBES, SUMMARY, TABLE, replacing, write_text
from results.folder import CURVE_SCHEMA, EDIT_SCHEMA, PROBE_SCHEMA, RunResult, parse_summary
from results.partial import explain_unwritable


def write_result(
    folder: Path,
    summary: Mapping[str, Any],
    rows: Sequence[Mapping[str, object]],
    probes: Iterable[Mapping[str, object]],
    curve: Sequence[Mapping[str, object]] = (),
    *,
    markdown: Callable[[RunResult], str],
) -> None:
    """Writes all files of a result; summary.json comes last and says that the run is finished.

    Args:
        folder: of the run.
        summary: content of summary.json.
        rows: lines of edits.parquet.
        probes: lines of probes.parquet.
        curve: lines of curve.parquet, which single edits have not.
        markdown: makes the content of table.md.

    Raises:
        DataError: the summary would not be accepted by its reader, or a file cannot be written.
    """
    run = parse_summary(summary, folder)
    with explain_unwritable(folder):
        write_rows(folder / EDITS, EDIT_SCHEMA, rows)
        write_rows(folder / PROBES, PROBE_SCHEMA, probes)
        if curve:
            write_rows(folder / CURVE, CURVE_SCHEMA, curve)
        write_text(folder / TABLE, markdown(run))
        write_summary(folder, summary)


def write_rows(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, object]]) -> Path:
    """Write a long table of a result folder.

    Args:
        path: the file; its folder is made if it does not exist.
        schema: its columns.
        rows: each with exactly these columns.

    Raises:
        ValueError: a row has other columns, or (from pyarrow, also as TypeError) a value of another
            type.
    """
    listed = list(rows)
    expected = set(schema.names)
    for row in listed:
        if row.keys() != expected:
            raise ValueError(f"expected rows with {', '.join(schema.names)}, got {', '.join(row)}")
    table = pa.Table.from_pylist(listed, schema=schema)
    with replacing(path) as temporary, temporary.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
    return path


def write_summary(folder: Path, summary: Mapping[str, object]) -> RunResult:
    """Write `summary.json`.

    Args:
        folder: of the run; made if it does not exist.
        summary: its fields; the values of `metrics` are `Estimate`s or already in the file's form.

    Returns:
        The run as `read_run` would read it, for the tables.

    Raises:
        DataError: the summary would not be accepted by `read_run`.
        ValueError: a number is nan or infinite, which JSON cannot hold.
    """
    metrics = summary.get("metrics")
    plain = dict(summary)
    if isinstance(metrics, Mapping):
        plain["metrics"] = {
            name: value.as_dict() if isinstance(value, Estimate) else value
            for name, value in metrics.items()
        }
    run = parse_summary(plain, folder)
    write_text(folder / SUMMARY, json.dumps(plain, indent=2, allow_nan=False) + "\n")
    return run
