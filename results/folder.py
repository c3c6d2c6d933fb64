"""The folder of one evaluation: what is in it, and how it is read (`results.writing` writes it).

    edits.parquet   one line per edit, probe and metric (`EDIT_SCHEMA`), values as fractions
    probes.parquet  one line per edit and probe (`PROBE_SCHEMA`): what was asked, of which picture,
                    and what the model's makers say of the fact; the probe `edit` is the question
                    that taught the edit
    curve.parquet   protocol=sequential and =batch only: edits.parquet at every point of the curve,
                    one after the other, with the number of edits in place (`CURVE_SCHEMA`)
    summary.json    the run and its metrics: mean in percent, 95 % interval, number of records;
                    beside them their gains and their parts by pictures that were read
    table.md        the same metrics for a reader

Readers check what they read and name the file and field that is wrong.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from errors import DataError
from metrics.bootstrap import Estimate
from metrics.concentration import Concentration
from metrics.headlines import FACT_BEFORE, NAMED_BEFORE, PRE_VALUE
from results.files import EDITS, PARTIAL, SUMMARY, TABLE
from results.summary_parts import (
    NUMBER,
    TEXT,
    is_a,
    parse_curve,
    parse_metrics,
    parse_not_taught,
    wrong_records,
)

EDIT_SCHEMA = pa.schema(
    [
        ("edit_id", pa.int64()),
        ("subject", pa.string()),
        ("probe", pa.string()),
        ("metric", pa.string()),
        ("value", pa.float64()),
        ("pre_text", pa.string()),
        ("post_text", pa.string()),
        ("target", pa.string()),
        ("seconds", pa.float64()),
        (PRE_VALUE, pa.float64()),  # of the unedited model's answer; null: the metric has none
        (NAMED_BEFORE, pa.bool_()),  # it named what the picture shows; null: it was not asked
        (FACT_BEFORE, pa.bool_()),  # it knew the probe's true answer about the picture
    ]
)

PROBE_SCHEMA = pa.schema(
    [
        ("edit_id", pa.int64()),
        ("probe", pa.string()),
        ("question", pa.string()),
        ("image", pa.string()),  # below `settings.image_root`; null: asked in text
        ("hops", pa.int64()),  # steps from the edited fact to the answer; null: not portability
        ("mark", pa.string()),  # of the fact: known_before, unlocked or taught; null: none
        ("drawn", pa.bool_()),  # the probe was drawn from another record; null: results do not say
        ("naming", pa.string()),  # the question who its picture shows; null: there is none
        ("naming_built", pa.bool_()),  # it was made from the subject's type, not the record's own
        ("said", pa.string()),  # what the picture was named, where a probe is asked by a name
        # Of the line `edit` alone, null on the others.
        ("relation", pa.string()),  # that the edit changes; null: nothing says
        ("target", pa.string()),  # the new answer, whole and as the data have it
        ("cluster", pa.string()),  # equal for edits that intervals draw together; null: each alone
    ]
)
# Columns that earlier results lack.
_ADDED = {
    PRE_VALUE, NAMED_BEFORE, FACT_BEFORE, "mark", "drawn", "naming", "naming_built", "said",
    "relation", "target", "cluster",
}  # fmt: skip
EDITS_IN_PLACE = "edits_in_place"  # column of curve.parquet, and the x-axis of its curves
CURVE_SCHEMA = EDIT_SCHEMA.append(pa.field(EDITS_IN_PLACE, pa.int64()))

_SUMMARY_FIELDS: dict[str, tuple[type, ...]] = {
    "editor": TEXT,
    "model": TEXT,
    "scenario": TEXT,
    "data": TEXT,
    "n_edits": (int,),
    "seed": (int,),
    "settings": (dict,),
    "versions": (dict,),
    "metrics": (dict,),
    "seconds_per_edit": (*NUMBER, type(None)),
    "peak_memory_bytes": (*NUMBER, type(None)),
}
_OPTIONAL_FIELDS: dict[str, tuple[type, ...]] = {
    "answer_seconds_per_edit": (*NUMBER, type(None)),
    "trained_parameters": (int, type(None)),
    "left_out_records": (list, type(None)),
    "records": (dict, type(None)),
    "protocol": (dict, type(None)),
    "curve": (dict, type(None)),
    "not_taught": (dict, type(None)),
    "variants": (dict, type(None)),
}
SINGLE, SEQUENTIAL, BATCH = "single", "sequential", "batch"
PROTOCOLS = (SINGLE, SEQUENTIAL, BATCH)
_EVALUATE_AGAIN = "evaluate again with evaluate.py into a new folder"


@dataclass(frozen=True)
class RunResult:
    """One evaluation, read from its folder.

    Attributes:
        editor: option name of the editor ("none" is the unedited model).
        scenario: "unimodal", "transitive" or "multimodal".
        settings: everything else that fixes the numbers (data and model digest, prompt, positions).
        versions: of the packages that ran.
        metrics: named metrics in percent, in the order of the file.
        seconds_per_edit: mean time of making one edit; None where it was not measured.
        peak_memory_bytes: None where it was not measured.
        answer_seconds_per_edit: mean time of answering all probes of one edit under it; None where
            it was not measured. Methods that make an edit in no time pay here.
        trained_parameters: weights that training made, 0 for the training-free methods; None in
            results that do not say.
        records: {"source", "origin", "licence"} of the records, which probes of how many of them
            were "drawn" from others, of how many the "naming" question is the record's (given),
            was built, or is missing (none), what a checkpoint was "trained_on", and what edits
            share with what was learnt from ("overlap"); None in results that do not say.
        left_out_records: {"record", "subject", "reason"} of each record that could not be used and
            was left out (`data.on_error=skip`); None in results that do not say.
        protocol: {"name": "single"}, {"name": "sequential", "n": [...], "turn": edits of an
            update}: edits stay in place, or {"name": "batch", "n": [...]}: those of each number are
            one update; None in results that do not say, which are of single edits.
        curve: number of edits in place -> named metrics, as `metrics`; None for single edits.
        not_taught: number of edits in place -> those of them that were not taught, since a later
            one of their update gives the same fact another answer; None for single edits.
        variants: beside each metric its gain over the unedited model, and its parts over pictures
            that this model read and did not read (`metrics.headlines.variants_of`); empty in
            results that do not say.
    """

    folder: Path
    editor: str
    model: str
    scenario: str
    data: str
    n_edits: int
    seed: int
    settings: Mapping[str, Any]
    versions: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    seconds_per_edit: float | None
    peak_memory_bytes: float | None
    answer_seconds_per_edit: float | None = None
    trained_parameters: int | None = None
    left_out_records: Sequence[Mapping[str, Any]] | None = None
    records: Mapping[str, Any] | None = None
    protocol: Mapping[str, Any] | None = None
    curve: Mapping[int, Mapping[str, Estimate]] | None = None
    not_taught: Mapping[int, Sequence[int]] | None = None
    variants: Mapping[str, Estimate] = field(default_factory=dict)

    @property
    def n_left_out(self) -> int:
        """Records that could not be used and were left out."""
        return len(self.left_out_records or ())

    @property
    def overlap(self) -> Mapping[str, Any] | None:
        """What edits share with what was learnt from (`records.overlap`); None: nothing is told."""
        shared = (self.records or {}).get("overlap")
        return shared if isinstance(shared, Mapping) and shared.get("edits") else None

    @property
    def protocol_name(self) -> str:
        """One of `PROTOCOLS`."""
        return str((self.protocol or {}).get("name", SINGLE))

    @property
    def cluster(self) -> str:
        """What intervals draw together: the edits of one "subject" or "target", or each "record".

        Results that do not say draw records.
        """
        return str(self.settings.get("cluster", "record"))

    @property
    def targets(self) -> Concentration | None:
        """How the edits are spread over their targets; None in results that do not say."""
        return Concentration.read((self.records or {}).get("targets"))

    def fact(self, key: str) -> object:
        """A field of the run or, if there is no such field, of its settings; None if in neither."""
        if key == "protocol":
            return self.protocol_name
        if key == "cluster":
            return self.cluster
        return self.settings.get(key) if key not in _SUMMARY_FIELDS else getattr(self, key)


def read_run(folder: Path) -> RunResult:
    """Read and check `summary.json` of a result folder.

    Raises:
        DataError: the file is missing, is no JSON, or a field is missing or of the wrong type.
    """
    return parse_summary(read_summary(folder), folder)


def read_summary(folder: Path) -> Any:
    """The content of `summary.json`, as it stands there.

    Raises:
        DataError: the file is missing or is no JSON.
    """
    path = folder / SUMMARY
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if (folder / PARTIAL).is_dir():
            raise DataError(
                f"{folder} holds a run that was not finished ({PARTIAL}/ but no {SUMMARY}); "
                f"continue it with the same command and output_dir={folder} resume=true, or leave "
                "the folder out."
            ) from None
        if any(folder.glob(f"*/{SUMMARY}")):
            raise DataError(
                f"{path} does not exist, but {folder} holds the runs of a sweep: give "
                f"{folder}/[0-9]*."
            ) from None
        raise DataError(
            f"{path} does not exist; a result folder holds {EDITS}, {SUMMARY} and {TABLE}: give a "
            "folder that evaluate.py wrote."
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON ({error}); {_EVALUATE_AGAIN}.") from error


def parse_summary(summary: object, folder: Path) -> RunResult:
    """Check the content of a `summary.json`.

    Raises:
        DataError: a field is missing or of the wrong type; the message names all of them.
    """
    path = folder / SUMMARY
    if not isinstance(summary, dict):
        raise DataError(f"{path} must hold a JSON object; {_EVALUATE_AGAIN}.")
    wrong = [
        f"{key} is missing" if key not in summary else f"{key} is {summary[key]!r}"
        for key, accepted in _SUMMARY_FIELDS.items()
        if key not in summary or not is_a(summary[key], accepted)
    ]
    wrong += [
        f"{key} is {summary[key]!r}"
        for key, accepted in _OPTIONAL_FIELDS.items()
        if key in summary and not is_a(summary[key], accepted)
    ]
    metrics = parse_metrics("metrics", summary.get("metrics"), wrong)
    variants = parse_metrics("variants", summary.get("variants"), wrong)
    curve = parse_curve(summary.get("curve"), wrong)
    not_taught = parse_not_taught(summary.get("not_taught"), wrong)
    wrong += wrong_records(summary.get("records"))
    protocol = summary.get("protocol")
    if isinstance(protocol, dict) and protocol.get("name") not in PROTOCOLS:
        wrong.append(f"protocol.name is {protocol.get('name')!r}")
    if wrong:
        raise DataError(
            f"{path} is not a valid summary: {'; '.join(wrong)}. Accepted are the fields "
            f'{", ".join(_SUMMARY_FIELDS)}, each metric as {{"mean": percent, "ci95": [low, high], '
            f'"n": records}}; {_EVALUATE_AGAIN}.'
        )
    fields = {key: summary[key] for key in _SUMMARY_FIELDS if key != "metrics"}
    fields |= {key: summary.get(key) for key in _OPTIONAL_FIELDS}
    return RunResult(
        folder=folder,
        **fields
        | {"metrics": metrics, "curve": curve, "variants": variants}
        | {"not_taught": not_taught},
    )


def read_edits(folder: Path) -> pd.DataFrame:
    """Read the long table of a result folder.

    Returns:
        One line per edit, probe and metric, with the columns of `EDIT_SCHEMA`.

    Raises:
        DataError: the file is missing, cannot be read or lacks a column.
    """
    return read_rows(folder / EDITS, EDIT_SCHEMA)


def read_rows(path: Path, schema: pa.Schema, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read a long table of a result folder: `EDITS`, `PROBES` or `CURVE` with its schema.

    Args:
        path: the file.
        schema: its columns.
        columns: those to read; texts are most of a file and cost most of the time. None: all.

    Raises:
        DataError: the file is missing, cannot be read or lacks a column.
    """
    frame: pd.DataFrame = _read_table(path, schema, columns).to_pandas()
    return frame


def read_lines(path: Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """The lines of such a table as they were written; a value that is not there is None.

    Raises:
        DataError: as `read_rows`.
    """
    lines: list[dict[str, Any]] = _read_table(path, schema, None).to_pylist()
    return lines


def _read_table(path: Path, schema: pa.Schema, columns: Sequence[str] | None) -> pa.Table:
    if not path.is_file():
        raise DataError(f"{path} does not exist; {_EVALUATE_AGAIN}.")
    try:
        present = pq.read_schema(path).names
        absent = [name for name in schema.names if name not in present]
        if lacking := [name for name in absent if name not in _ADDED]:
            raise DataError(
                f"{path} lacks the columns {', '.join(lacking)}; expected are "
                f"{', '.join(schema.names)}: {_EVALUATE_AGAIN}."
            )
        wanted = list(columns or schema.names)
        table = pq.read_table(path, columns=[name for name in wanted if name not in absent])
        for place, name in enumerate(wanted):
            if name in absent:
                nulls = pa.nulls(len(table), schema.field(name).type)
                table = table.add_column(place, schema.field(name), nulls)
        return table
    except (OSError, pa.ArrowException) as error:
        raise DataError(
            f"{path} cannot be read as parquet ({error}); {_EVALUATE_AGAIN}."
        ) from error
