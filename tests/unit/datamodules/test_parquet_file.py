"""Files of records in Parquet are read as the JSON of the same records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from datamodules.json_file import read_list
from errors import DataError
from tests.benchmark_files import MEND, MMEDIT, MULTIHOP, NESTED, ONE_HOP, VLKEB, options, read
from tests.unit.datamodules.test_sources import RECORD, other

SAMPLES: dict[str, list[dict[str, Any]]] = {
    "tmke": [RECORD, other("Car A")],
    "vlkeb": [ONE_HOP, {**VLKEB, "pred": "Moor", "image": "m.9/1.jpg"}],
    "mmedit": [MMEDIT],
    "zsre": [MEND],
    "counterfact": [NESTED],
}


@pytest.mark.parametrize("name", SAMPLES)
def test_the_records_are_those_of_json(tmp_path: Path, name: str) -> None:
    rows = SAMPLES[name]
    of_json = read(name, tmp_path, *rows)
    (tmp_path / "test.json").unlink()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "test.parquet")
    source = options(name, tmp_path, files=None).open()
    assert list(source.records("test")) == list(of_json.records("test"))
    assert source.place("test", 0) == f"record 0 of {tmp_path / 'test.parquet'}"


def test_a_field_of_some_rows_is_absent_in_the_others(tmp_path: Path) -> None:
    rows = [VLKEB, {**MULTIHOP, "pred": "Moor", "image": "m.9/1.jpg"}]
    of_json = read("vlkeb", tmp_path, *rows, hop=2)
    pq.write_table(pa.Table.from_pylist(rows[::-1]).take([1, 0]), tmp_path / "test.parquet")
    source = options("vlkeb", tmp_path, files=["test.parquet"], hop=2).open()
    assert list(source.records("test")) == list(of_json.records("test"))


def test_a_picture_inside_the_file_is_its_name(tmp_path: Path) -> None:
    row = {**VLKEB, "image": {"bytes": b"abc", "path": VLKEB["image"]}}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "test.parquet")
    source = options("vlkeb", tmp_path, files=["test.parquet"]).open()
    assert source.records("test")[0].image == VLKEB["image"]


def test_a_wrong_row_is_named(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([RECORD, {"subject": "a"}]), tmp_path / "t.parquet")
    with pytest.raises(DataError, match=r"record 1 of .*t\.parquet breaks .*knowledge_edit: F"):
        options("tmke", tmp_path).open()


def test_what_a_run_wrote_beside_them_is_not_read(tmp_path: Path) -> None:
    """Where data.root is the output folder of an evaluation."""
    read("tmke", tmp_path, RECORD)
    for name in ("edits.parquet", "probes.parquet"):
        pq.write_table(pa.table({"edit_id": [0]}), tmp_path / name)
    assert len(options("tmke", tmp_path).open().records("test")) == 1


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"", "no Parquet file"), (b"PAR1 and no more", "no Parquet file"), (None, "has no rows")],
)
def test_a_file_that_is_none(tmp_path: Path, content: bytes | None, told: str) -> None:
    path = tmp_path / "a.parquet"
    if content is None:
        pq.write_table(pa.table({"subject": pa.array([], pa.string())}), path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.parquet .*{told}"):
        read_list(path, "records")
