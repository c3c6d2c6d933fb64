"""What part of a text edit reaches pictures, on planted results."""

from __future__ import annotations

from pathlib import Path

import pytest

from reporting.formats import NO_GAIN, NOT_SPECIFIC
from reporting.naming import entries
from reporting.reach import SPECIFIC_GAIN, Reach, reach_table, reaches
from results.folder import RunResult
from tests.result_folders import make_scored
from tests.transitive_results import ACCURACY, EXACT, asked, make_pictures, make_text


def only(*runs: RunResult) -> Reach:
    (found,) = reaches(entries(runs))
    return found


def test_a_part_is_above_each_floor_in_percent_of_text(tmp_path: Path) -> None:
    pictures = make_pictures(tmp_path / "p", "ft", 14)
    found = only(make_text(tmp_path / "t", "ft"), pictures)
    gain, specific = found.parts["gain"], found.parts[SPECIFIC_GAIN]
    assert (gain.in_text.mean, gain.on_picture.mean) == (100, 60)
    assert (specific.in_text.mean, specific.on_picture.mean) == (80, 50)  # of 60, 10 were there
    assert (gain.share.mean, specific.share.mean) == (60, 62.5)
    assert 0 < specific.share.low < 62.5 < specific.share.high
    assert found.arrives


def test_an_editor_that_changes_nothing_has_no_part(tmp_path: Path) -> None:
    runs = [
        make_text(tmp_path / "t", "serac", 2, leaked=2, before=2, leaked_before=2),
        make_pictures(tmp_path / "p", "serac", 2, leaked=2, before=2, leaked_before=2),
    ]
    found = only(*runs)
    assert not found.arrives
    assert {floor: part.share.n for floor, part in found.parts.items()} == {
        "gain": 0, SPECIFIC_GAIN: 0,
    }  # fmt: skip
    table = reach_table([found])
    assert table is not None
    assert [cell.text for cell in table.rows[0].cells[4::3]] == ["-", "-"]
    assert {cell.floor for cell in table.rows[0].cells[:2]} == {NO_GAIN + NOT_SPECIFIC}


def test_an_answer_that_everybody_gets_does_not_arrive(tmp_path: Path) -> None:
    """It gains on the picture, and just as much about another subject of the type."""
    everybody = make_pictures(tmp_path / "p", "ike", 20, leaked=20, leaked_before=2)
    found = only(make_text(tmp_path / "t", "ike"), everybody)
    assert found.parts["gain"].share.mean == 90
    assert found.parts[SPECIFIC_GAIN].share.mean == 0
    assert not found.arrives


def test_a_specificity_that_was_there_before_is_none_of_the_edit(tmp_path: Path) -> None:
    """Both answers gain alike: what is specific to the subject is what the unedited model knew."""
    pictures = make_pictures(tmp_path / "p", "ft", 20, leaked=12, before=8, leaked_before=0)
    found = only(make_text(tmp_path / "t", "ft"), pictures)
    assert found.parts["gain"].on_picture.low > 0
    assert found.marks == ""  # the specificity of 40 points is told from 0 as well
    assert found.parts[SPECIFIC_GAIN].on_picture.mean == 0
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


def test_points_are_over_seeds_too(tmp_path: Path) -> None:
    """One of two seeds adds nothing on the picture, so nothing is told, as the mark says."""
    runs = [
        make(tmp_path / f"{make.__name__}{seed}", "mend", seed=seed, given=given)
        for seed, given in ((0, 20), (1, 2))
        for make in (make_text, make_pictures)
    ]
    found = only(*runs)
    added = found.parts["gain"].on_picture
    assert (added.mean, added.low > 0) == (45, False)
    assert NO_GAIN in found.marks
    assert not found.arrives


def test_records_without_a_probe_are_counted(tmp_path: Path) -> None:
    some = [1.0] * 4 + [0.0] * 6 + [None] * 10
    missing = {f"leak_same/{measure}{when}": some
               for measure in (ACCURACY, EXACT) for when in ("", "_before")}  # fmt: skip
    runs = [
        make_scored(tmp_path / scenario, "ft", scenario, asked(probe, 20) | missing)
        for scenario, probe in (("unimodal", "reliability"), ("transitive", "reliability_s"))
    ]
    table = reach_table([only(*runs)])
    assert table is not None
    (told,) = [note for note in table.notes if note.startswith("Fewer records")]
    assert "Specificity gain, picture 10" in told
