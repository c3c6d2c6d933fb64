"""The folder of knowledge neurons: its files and their columns.

    neurons.parquet   the coarse sets, a line per neuron; its attribution is a probability
    overlaps.parquet  a line per edit and comparison: sizes of the sets, and fractions
    landing.parquet   a line per edit, matrix and question: parts of the update's squared norm
    neurons.json      means over edits in percent, with intervals and levels of chance; settings
    neurons.png       the figure, and neurons.pdf

A value that does not exist (a question without an answer, two empty sets) is null.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from analysis.neuron_figure import neuron_figure
from errors import ConfigError
from results.files import write_text
from results.writing import write_rows

NUMBERS = "neurons.json"
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
}  # fmt: skip


def check_free(output: Path, *, overwrite: bool) -> None:
    """Refuses a folder that holds neurons already, or a path that is no folder.

    Raises:
        ConfigError: the output is taken.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder, new or empty.")
    if (output / NUMBERS).exists() and not overwrite:
        raise ConfigError(
            f"--output {output} holds {NUMBERS} already; give another folder, or --overwrite to "
            "replace it."
        )


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

    Returns:
        The files written.
    """
    files = [
        write_rows(output / f"{name}.parquet", schema, tables[name])
        for name, schema in TABLES.items()
    ]
    files += neuron_figure(numbers, output / "neurons")
    write_text(output / NUMBERS, json.dumps(numbers, indent=1, allow_nan=False) + "\n")
    return [*files, output / NUMBERS]
