"""Runs whose edits stay in place: protocols kept apart, curves read, tabled and drawn."""

import math
from pathlib import Path

import pytest

from errors import DataError
from metrics.bootstrap import Estimate, estimate
from reporting.comparable import check_comparable, split_protocols
from reporting.curves import curve_of, curve_table
from reporting.figures import edit_curves
from reporting.naming import entries
from reporting.tables import scenario_table
from results.files import CURVE
from results.folder import CURVE_SCHEMA, RunResult
from results.writing import write_rows
from tests.result_folders import edit_row, make_run

SEQUENTIAL = {"name": "sequential", "n": [1, 10]}


def point(mean: float, n: int) -> dict[str, object]:
    return Estimate(mean, mean - 1, mean + 2, n).as_dict()


def sequential_run(folder: Path, editor: str = "ft", **changes: object) -> RunResult:
    curve = {
        "10": {"Reliability": point(60, 10), "Portability": point(5, 7)},
        "1": {"Reliability": point(100, 1), "Portability": Estimate(0, 0, 0, 0).as_dict()},
    }
    return make_run(folder, editor, **({"protocol": SEQUENTIAL, "curve": curve} | changes))


def test_sequential_and_single_runs_share_no_table(tmp_path: Path) -> None:
    single = make_run(tmp_path / "single", "mend")
    sequential = sequential_run(tmp_path / "sequential")
    rows = entries([sequential, single])
    assert split_protocols(rows) == ((rows[1],), {"sequential": (rows[0],), "batch": ()})
    with pytest.raises(DataError) as caught:
        scenario_table(entries([single, sequential]))
    assert (
        f"protocol is 'single' in {tmp_path / 'single'} but 'sequential' in "
        f"{tmp_path / 'sequential'}" in str(caught.value)
    )
    old_and_new = [make_run(tmp_path / "old", "ft"), make_run(tmp_path / "new", "ike")]
    old_and_new.append(make_run(tmp_path / "newer", "rome", protocol={"name": "single"}))
    check_comparable(entries(old_and_new))


def test_a_table_of_sequential_runs_says_so(tmp_path: Path) -> None:
    assert "after 10 edits in sequence" in scenario_table(entries([sequential_run(tmp_path)])).title


def test_the_table_of_a_curve(tmp_path: Path) -> None:
    table = curve_table(
        entries([sequential_run(tmp_path / "b", "mend"), sequential_run(tmp_path / "a", "ft")])
    )
    assert table.heads == ("Model", "Editor", "Edits in place")
    assert [(*row.heads[1:], row.n, *(cell.text for cell in row.cells)) for row in table.rows] == [
        ("FT", "1", "1", "100.0", "-", "-", "-", "-"),
        ("FT", "10", "10", "60.0", "-", "5.0", "-", "-"),
        ("MEND", "1", "1", "100.0", "-", "-", "-", "-"),
        ("MEND", "10", "10", "60.0", "-", "5.0", "-", "-"),
    ]
    assert table.rows[1].cells[0].half == "1.5"
    assert table.notes[-1] == "Fewer records than n: Portability 7."


def test_edits_in_one_batch_have_tables_of_their_own(tmp_path: Path) -> None:
    protocol = {"name": "batch", "n": [1, 10]}
    not_taught = {"1": {}, "10": {"3": 7, "5": 8}}
    batch = sequential_run(tmp_path / "batch", protocol=protocol, not_taught=not_taught)
    sequence = sequential_run(tmp_path / "sequence")
    single, of_many = split_protocols(entries([batch, sequence]))
    assert single == ()
    assert [[row.folder.name for row in rows] for rows in of_many.values()] == [
        ["sequence"], ["batch"],
    ]  # fmt: skip
    table = curve_table(of_many["batch"])
    assert table.title.startswith("Unimodal scenario, edits in one batch, data ")
    assert table.notes[0].startswith("The edits of each number are one update")
    assert table.notes[1].endswith("gives the same fact another answer: 2 of 10 edits.")
    assert not any("Not taught" in note for note in curve_table(of_many["sequential"]).notes)
    with pytest.raises(DataError, match=r"protocol is 'batch' in .* but 'sequential'"):
        curve_table(entries([batch, sequence]))
    assert "after 10 edits in one batch" in scenario_table(of_many["batch"]).title


def test_turns_of_another_size_are_another_row(tmp_path: Path) -> None:
    runs = [
        sequential_run(tmp_path / str(turn), protocol=SEQUENTIAL | {"turn": turn})
        for turn in (1, 5)
    ]
    older = sequential_run(tmp_path / "older", seed=7)
    rows = entries([*runs, older])
    assert [(row.name, len(row.runs)) for row in rows] == [("FT (turn=1)", 2), ("FT (turn=5)", 1)]
    table = curve_table(rows)
    assert len(table.rows) == 4
    assert table.notes[1] == "Edits are made in turns of 1 and 5, each turn in one update."
    assert not any("turns of" in note for note in curve_table(rows[:1]).notes)


@pytest.mark.parametrize("not_taught", [{"ten": {}}, {"10": [3]}, {"10": {"x": 7}}])
def test_edits_that_were_not_taught_are_read_with_care(
    tmp_path: Path, not_taught: dict[str, object]
) -> None:
    with pytest.raises(DataError, match=f"not_taught.{next(iter(not_taught))} is"):
        sequential_run(tmp_path, not_taught=not_taught)


def test_a_curve_without_numbers_in_the_summary_comes_from_its_table(tmp_path: Path) -> None:
    run = make_run(tmp_path, protocol=SEQUENTIAL, seed=3)
    with pytest.raises(DataError, match="has no curve"):
        curve_of(run)
    values = {1: [1.0], 10: [1.0, 0.5, 0.0]}
    rows = [
        edit_row(edit_id=edit, value=value) | {"edits_in_place": place}
        for place, of_edits in reversed(values.items())
        for edit, value in enumerate(of_edits)
    ]
    write_rows(tmp_path / CURVE, CURVE_SCHEMA, rows)
    curve = curve_of(run)
    assert list(curve) == [1, 10]
    expected = estimate([1.0, 0.5, 0.0], scale=100, seed=3)
    assert curve[10] == {"Reliability": expected}
    assert not math.isclose(expected.low, expected.high)


def test_curves_are_drawn(tmp_path: Path) -> None:
    runs = [sequential_run(tmp_path / name, name) for name in ("ft", "mend")]
    files = edit_curves(entries(runs), tmp_path / "curves")
    assert [path.suffix for path in files] == [".png", ".pdf"]
    assert all(path.stat().st_size > 3000 for path in files)
    again = edit_curves(entries(runs), tmp_path / "again")
    assert [path.read_bytes() for path in files] == [path.read_bytes() for path in again]
