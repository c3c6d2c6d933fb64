"""Records outside the memory are the same records, by any number, slice, order and process."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datamodules import record_table
from datamodules.record_table import RecordTable, contents, select
from datamodules.records import Record
from datamodules.served import ServedEdits
from datamodules.tmke_record import TmkeRecord
from errors import DataError
from tests.disks import files_up_to
from tests.unit.datamodules.packed_cases import few, full

MADE = [
    Record.model_validate((full if number % 3 else few)(f"Ca{chr(769)}r {number} 鴻"))
    for number in range(7)
]


@pytest.fixture(params=["in memory", "in a file"])
def table(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> RecordTable:
    if request.param == "in a file":
        monkeypatch.setattr(record_table, "_IN_MEMORY", 1)
    return RecordTable.of(iter(MADE))


def test_it_has_the_records(table: RecordTable) -> None:
    gc.collect()  # the file is closed, and what is mapped stays
    assert list(table) == MADE
    assert [table[number] for number in range(-7, 7)] == [*MADE, *MADE]
    assert list(table[1:6:2]) == MADE[1:6:2]
    assert list(table[::-1]) == MADE[::-1]
    assert list(contents(table)) == list(contents(MADE))
    for beyond in (7, -8):
        with pytest.raises(IndexError):
            table[beyond]


def test_it_is_sent_to_other_processes(table: RecordTable) -> None:
    sent = pickle.loads(pickle.dumps(table.take([6, 0])))
    assert list(sent) == [MADE[6], MADE[0]]


def test_what_a_benchmark_demands_is_a_record_like_any(table: RecordTable) -> None:
    strict = TmkeRecord.model_validate({**full("Car A")})
    (record,) = RecordTable.of([strict])
    assert type(record) is Record
    assert record.model_dump_json() == strict.model_dump_json()


ORDERS = st.lists(st.integers(0, len(MADE) - 1), max_size=12)


@given(ORDERS, st.data())
def test_an_order_of_an_order_is_that_of_lists(order: list[int], data: st.DataObject) -> None:
    table, listed = RecordTable.of(MADE).take(order), [MADE[n] for n in order]
    assert list(table) == listed
    again = data.draw(
        st.lists(st.integers(0, len(order) - 1), max_size=9) if order else st.just([])
    )
    for records in (table, listed):
        edits = ServedEdits(records, again)
        assert list(edits) == [(n, listed[place]) for n, place in enumerate(again)]
        assert [edits[n] for n in range(len(edits))] == list(edits)
        assert edits[1:] == list(edits)[1:]
        assert list(edits.records) == list(select(records, again))


def test_records_of_a_table_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are read, only so many are there as objects."""
    monkeypatch.setattr(record_table, "_PARSED", 3)
    table = RecordTable.of(MADE)
    for _ in table:
        pass
    gc.collect()
    alive = [o for o in gc.get_objects() if type(o) is Record and o not in MADE]
    assert len([o for o in alive if o.subject in {r.subject for r in MADE}]) <= 3


def test_no_room_for_records(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(record_table, "_IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with (
        files_up_to(1000),
        pytest.raises(DataError, match=rf"cannot be kept in {tmp_path} .*TMPDIR"),
    ):
        RecordTable.of(MADE)
    assert list(tmp_path.iterdir()) == []


def test_no_file_is_seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(record_table, "_IN_MEMORY", 1)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    table: Sequence[Record] = RecordTable.of(MADE)
    assert list(tmp_path.iterdir()) == []
    assert table[3] == MADE[3]
