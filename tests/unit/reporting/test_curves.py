"""Runs whose edits stay in place: protocols kept apart, curves read, tabled and drawn."""

import math
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from errors import DataError
from metrics.bootstrap import Estimate, estimate
from reporting.comparable import check_comparable, split_protocols
from reporting.curves import curve_of, curve_table
from reporting.figures import AT_A_FLOOR, edit_curves
from reporting.formats import NO_GAIN, NOT_SPECIFIC, to_markdown
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


POINTS = (1, 4, 8)
RIGHT, WRONG = 1.0, 0.0


def scored_run(
    folder: Path,
    editor: str = "ft",
    *,
    after: float = RIGHT,
    before: float | None = WRONG,
    about_others: float | None = WRONG,
    last_has_others: bool = True,
    **changes: object,
) -> RunResult:
    """A sequence whose edits are all answered alike, and what its `curve.parquet` says of them.

    Args:
        folder: of the run.
        editor: label of the editor.
        after: score of the new answer about each subject.
        before: the unedited model's; None: results that do not say.
        about_others: score of the new answer about an entity of the same type; None: not asked.
        last_has_others: such a question is left at the last point.
        changes: other fields of the summary.
    """
    means = {str(n): {"Reliability": point(100 * after, n)} for n in POINTS}
    changes.setdefault("protocol", SEQUENTIAL | {"n": list(POINTS)})
    run = make_run(folder, editor, curve=means, n_edits=POINTS[-1], **changes)
    scores = {"reliability": (after, before), "leak_same": (about_others, before)}
    lines = [
        edit_row(edit_id=edit, probe=probe, value=value, pre_value=was) | {"edits_in_place": n}
        for n in POINTS
        for edit in range(n)
        for probe, (value, was) in scores.items()
        if value is not None and (probe == "reliability" or last_has_others or n < POINTS[-1])
    ]
    write_rows(folder / CURVE, CURVE_SCHEMA, lines)
    return run


def marks_of(*runs: RunResult) -> list[str]:
    """The marks of Reliability, point by point and row by row."""
    return [row.cells[0].floor for row in curve_table(entries(list(runs))).rows]


def test_points_that_are_not_told_from_a_floor_are_marked(tmp_path: Path) -> None:
    arrives = scored_run(tmp_path / "arrives")
    assert marks_of(arrives) == ["", "", ""]
    idle = scored_run(tmp_path / "idle", after=RIGHT, before=RIGHT)
    assert marks_of(idle) == ["", NO_GAIN, NO_GAIN], "of one record there is no interval"
    everybody = scored_run(tmp_path / "everybody", about_others=RIGHT)
    assert marks_of(everybody) == ["", NOT_SPECIFIC, NOT_SPECIFIC]
    neither = scored_run(tmp_path / "neither", before=RIGHT, about_others=RIGHT)
    assert marks_of(neither) == ["", NO_GAIN + NOT_SPECIFIC, NO_GAIN + NOT_SPECIFIC]
    unedited = scored_run(tmp_path / "none", "none", before=RIGHT, about_others=RIGHT)
    assert marks_of(unedited) == ["", "", ""], "it is a floor itself"
    table = curve_table(entries([neither]))
    assert [note[0] for note in table.notes if note[0] in (NO_GAIN, NOT_SPECIFIC)] == [
        NO_GAIN, NOT_SPECIFIC,
    ]  # fmt: skip
    assert f"100.0 ± 1.5 {NO_GAIN}{NOT_SPECIFIC} |" in to_markdown(table)


def test_curves_of_before_have_the_marks_that_they_tell_of(tmp_path: Path) -> None:
    """Without the unedited model's scores, without its questions about others, or without both."""
    lost = {"before": None, "about_others": RIGHT}
    assert marks_of(scored_run(tmp_path / "a", **lost)) == ["", NOT_SPECIFIC, NOT_SPECIFIC]
    assert marks_of(sequential_run(tmp_path / "b")) == ["", ""], "it has no table of its points"
    alone = scored_run(tmp_path / "c", before=RIGHT, about_others=None)
    assert marks_of(alone) == ["", NO_GAIN, NO_GAIN]


def test_a_score_that_a_point_has_twice_is_refused(tmp_path: Path) -> None:
    run = scored_run(tmp_path)
    twice = [edit_row(edit_id=0, value=value) | {"edits_in_place": 1} for value in (1.0, 0.5)]
    write_rows(tmp_path / CURVE, CURVE_SCHEMA, twice)
    with pytest.raises(DataError, match=r"curve.parquet has two scores .* \(token_accuracy of rel"):
        marks_of(run)


def test_a_table_says_where_no_question_about_others_is_left(tmp_path: Path) -> None:
    left = scored_run(tmp_path / "left", about_others=RIGHT)
    said = "no record has a question about an entity of the same type"
    assert not any(said in note for note in curve_table(entries([left])).notes)
    gone = scored_run(tmp_path / "gone", about_others=RIGHT, last_has_others=False)
    assert marks_of(gone) == ["", NOT_SPECIFIC, ""]
    (note,) = (note for note in curve_table(entries([gone])).notes if said in note)
    assert note.startswith("With 8 edits in place")


def test_points_of_several_seeds_are_marked_over_records_and_seeds(tmp_path: Path) -> None:
    """One of two seeds gives the new answer to everybody; the draws reach 0."""
    seeds = [
        scored_run(tmp_path / str(seed), about_others=leaked, seed=seed)
        for seed, leaked in enumerate((WRONG, RIGHT))
    ]
    assert marks_of(*seeds) == ["", NOT_SPECIFIC, NOT_SPECIFIC]
    assert marks_of(seeds[0]) == ["", "", ""]


def test_marked_points_are_drawn_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def drawn(*runs: RunResult) -> tuple[list[list[float]], list[str]]:
        """Where open points of Reliability are, row by row, and the legend."""
        kept: list[Figure] = []

        def keep(figure: Figure, base: Path) -> list[Path]:
            kept.append(figure)
            return []

        monkeypatch.setattr("reporting.figures.save", keep)
        edit_curves(entries(list(runs)), tmp_path / "curves")
        lines = [line for line in kept[0].axes[0].lines if line.get_markerfacecolor() == "white"]
        (legend,) = kept[0].legends
        return [list(map(float, line.get_xdata())) for line in lines], [
            text.get_text() for text in legend.get_texts()
        ]

    everybody = scored_run(tmp_path / "everybody", about_others=RIGHT)
    arrives = scored_run(tmp_path / "arrives", "mend")
    assert drawn(everybody, arrives) == ([[4, 8], []], ["FT", "MEND", AT_A_FLOOR])
    assert drawn(arrives) == ([[]], ["MEND"])
