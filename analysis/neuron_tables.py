"""The folder of knowledge neurons (its files and their columns) and the table of their means.

    neurons.parquet   the coarse sets, a line per neuron; its attribution is a probability
    overlaps.parquet  a line per edit and comparison: sizes of the sets, and fractions
    landing.parquet   a line per edit, matrix and question: parts of the update's squared norm
    shortcuts.parquet a line per edit and time: the authors' share; without a line where not asked
    neurons.json      means over edits in percent, with intervals and levels of chance; settings
    neurons.png       the figure, and neurons.pdf

A value that does not exist (a question without an answer, two empty sets) is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.table import Table

from analysis import NUMBERS
from analysis.figures import neuron_figure
from analysis.shortcut import STEPS_OF_CHAIN
from reporting.formats import EMPTY
from reporting.labels import editor_label, model_label
from results.files import write_text
from results.writing import write_rows

COLUMNS = ("%", "95 % interval", "other subjects", "random", "n")
_ABOUT = [("edit_id", pa.int64()), ("subject", pa.string()), ("when", pa.string())]
_LEVELS = ("", "chance_", "unrelated_")
_FRACTIONS = [level + measure for measure in ("jaccard", "share") for level in _LEVELS]
TABLES = {
    "neurons": pa.schema(
        [*_ABOUT, ("question", pa.string()), ("layer", pa.int64()), ("neuron", pa.int64()),
         ("attribution", pa.float64())]
    ),
    "overlaps": pa.schema(
        [*_ABOUT, ("pair", pa.string()), ("size_a", pa.int64()), ("size_b", pa.int64()),
         *((name, pa.float64()) for name in _FRACTIONS)]
    ),
    "landing": pa.schema(
        [*_ABOUT, ("question", pa.string()), ("matrix", pa.string()),
         *((name, pa.float64()) for name in ("share", "chance", "unrelated"))]
    ),
    "shortcuts": pa.schema(
        [*_ABOUT, *((f"size_{step}", pa.int64()) for step in STEPS_OF_CHAIN),
         *((f"{level}share", pa.float64()) for level in _LEVELS),
         ("is_given", pa.bool_()), ("verdict", pa.string())]
    ),
}  # fmt: skip


def write_neurons(
    output: Path,
    numbers: Mapping[str, Any],
    tables: Mapping[str, Sequence[Mapping[str, object]]],
) -> list[Path]:
    """Writes the tables and the figure, and last the numbers.

    Args:
        output: the folder, made if it does not exist.
        numbers: content of neurons.json.
        tables: name -> lines with the columns of `TABLES`.
    """
    files = [
        write_rows(output / f"{name}.parquet", schema, tables[name])
        for name, schema in TABLES.items()
    ]
    files += neuron_figure(numbers, output / "neurons")
    write_text(output / NUMBERS, json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    return [*files, output / NUMBERS]


def neuron_table(numbers: Mapping[str, Any]) -> Table:
    """Overlaps, for edits that reach the picture or do not, and where updates land.

    A line without a value is left out.

    Returns:
        A rich table: comparison, mean in percent, 95 % interval, the same with questions about
        other subjects, for random sets of these sizes, and the number of edits.
    """
    table = Table(
        title=f"Knowledge neurons: {editor_label(numbers['editor'])} on "
        f"{model_label(numbers['model'])}, {numbers['scenario']} scenario",
        caption=f"{numbers['data']}, {numbers['n_edits']} edits, "
        f"{numbers['settings']['steps']} steps, threshold {numbers['settings']['threshold']}",
    )
    table.add_column("", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True)
    sections = (_overlaps(numbers), _transfer(numbers), _landing(numbers), _shortcut(numbers))
    for section in sections:
        for name, measured in section:
            if measured["value"]["n"]:
                table.add_row(name, *_cells(measured))
        table.add_section()
    return table


def _overlaps(numbers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for when, pairs in numbers["overlaps"].items():
        for pair, measures in pairs.items():
            yield f"Jaccard, {when}: {pair}", measures["jaccard"]


def _transfer(numbers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, measured in numbers["transfer"].items():
        yield f"text-image before, if picture {name.replace('_', ' ')}", measured


def _landing(numbers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for matrix, times in numbers["landing"].items():
        for when, questions in times.items():
            for question, measured in questions.items():
                yield f"Update of {matrix} on {question}'s, {when}", measured


def _shortcut(numbers: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The authors' share; the parts of the verdicts stand in neurons.json."""
    for when, parts in numbers.get("shortcut", {}).items():
        for which, measured in parts.items():
            answers = "" if which == "all" else ", all three answers given"
            yield f"Shortcut share, {when}{answers}", measured


def _cells(measured: Mapping[str, Any]) -> Iterator[str]:
    low, high = measured["value"]["ci95"]
    yield f"{measured['value']['mean']:.1f}"
    yield EMPTY if low is None else f"{low:.1f} to {high:.1f}"
    for level in ("unrelated", "chance"):
        mean = measured[level]["mean"]
        yield EMPTY if mean is None else f"{mean:.1f}"
    yield str(measured["value"]["n"])
