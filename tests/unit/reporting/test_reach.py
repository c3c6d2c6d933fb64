"""What part of a text edit reaches pictures, on planted results."""

from __future__ import annotations

from pathlib import Path

import pytest

from reporting.formats import NO_GAIN, NOT_SPECIFIC
from reporting.naming import entries
from reporting.reach import Reach, reach_table, reaches
from results.folder import RunResult
from tests.result_folders import make_scored
from tests.transitive_results import asked, make_pictures, make_text


def only(*runs: RunResult) -> Reach:
    (found,) = reaches(entries(runs))
    return found


def test_a_part_is_above_each_floor_in_percent_of_text(tmp_path: Path) -> None:
    found = only(make_text(tmp_path / "t", "ft"), make_pictures(tmp_path / "p", "ft"))
    gain, specific = found.parts["gain"], found.parts["specificity"]
    assert (gain.in_text.mean, gain.on_picture.mean) == (100, 40)
    assert (specific.in_text.mean, specific.on_picture.mean) == (80, 40)
    assert (gain.share.mean, specific.share.mean) == (40, 50)
    assert 0 < specific.share.low < 50 < specific.share.high
    assert found.arrives


def test_an_editor_that_changes_nothing_has_no_part(tmp_path: Path) -> None:
    runs = [
        make_text(tmp_path / "t", "serac", 2, leaked=2, before=2),
        make_pictures(tmp_path / "p", "serac", 2, leaked=2, before=2),
    ]
    found = only(*runs)
    assert not found.arrives
    assert {floor: part.share.n for floor, part in found.parts.items()} == {
        "gain": 0, "specificity": 0,
    }  # fmt: skip
    table = reach_table([found])
    assert table is not None
    assert [cell.text for cell in table.rows[0].cells[4::3]] == ["-", "-"]
    assert {cell.floor for cell in table.rows[0].cells[:2]} == {NO_GAIN + NOT_SPECIFIC}


def test_an_answer_that_everybody_gets_does_not_arrive(tmp_path: Path) -> None:
    """It gains on the picture, and just as much about another subject of the type."""
    runs = [make_text(tmp_path / "t", "ike"), make_pictures(tmp_path / "p", "ike", 20, leaked=20)]
    found = only(*runs)
    assert found.parts["gain"].share.mean == 90
    assert found.parts["specificity"].share.mean == 0
    assert not found.arrives


def test_without_a_probe_about_others_nothing_is_told(tmp_path: Path) -> None:
    runs = [
        make_text(tmp_path / "t", "ft"),
        make_scored(tmp_path / "p", "ft", "transitive", asked("reliability_s", 20)),
    ]
    found = only(*runs)
    assert (list(found.parts), found.arrives) == (["gain"], False)


def test_rows_without_a_floor_or_not_judged_alike_are_left_out(tmp_path: Path) -> None:
    runs = [
        make_text(tmp_path / "none-t", "none"), make_pictures(tmp_path / "none-p", "none"),
        make_text(tmp_path / "ft-t", "ft"),
        make_pictures(tmp_path / "ft-p", "ft", model_digest="other"),
        make_pictures(tmp_path / "rome-p", "rome"),
    ]  # fmt: skip
    assert reaches(entries(runs)) == []
    assert reach_table([]) is None


def test_seeds_are_one_row(tmp_path: Path) -> None:
    runs = [
        make(tmp_path / f"{make.__name__}{seed}", "mend", seed=seed, given=given)
        for seed, given in ((0, 10), (1, 20))
        for make in (make_text, make_pictures)
    ]
    found = only(*runs)
    assert found.parts["gain"].on_picture.mean == pytest.approx(65)
    assert found.parts["gain"].share.mean == pytest.approx(100 * 65 / 75)
