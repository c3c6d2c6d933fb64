"""The matrix of what is edited by how it is asked, on planted results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from reporting.document import build_report
from reporting.formats import APART, Cell, ResultTable
from reporting.matrix import PLACES, matrices, matrix_heat_maps, matrix_table
from reporting.naming import entries
from reporting.sources import Sources
from results.folder import RunResult
from tests.result_folders import make_scored

N = 20
# What is edited and how it is asked -> right answers of 20 after the edit, before it, and leaked.
PLANTED = {
    ("text", "text"): (20, 0, 2),
    ("text", "picture"): (6, 5, 6),
    ("picture", "text"): (8, 0, 1),
    ("picture", "picture"): (19, 5, 3),
    ("both", "text"): (18, 0, 2),
    ("both", "picture"): (17, 5, 4),
}


def shares(right: int) -> list[float]:
    return [1.0] * right + [0.0] * (N - right)


def run(root: Path, editor: str, scenario: str, **changes: object) -> RunResult:
    """A scenario with the planted cells that lie in it; of the unedited model, those before."""
    scores: dict[str, Sequence[float | None]] = {}
    for cell, (of_cell, suffix) in PLACES.items():
        if of_cell != scenario:
            continue
        after, before, leaked = PLANTED[cell]
        if editor == "none":
            after, leaked = before, 0
        probe, beside = f"reliability{suffix.lower()}", "_t" if suffix == "_T" else ""
        scores[f"{probe}/token_accuracy"] = shares(after)
        scores[f"{probe}/token_accuracy_before"] = shares(before)
        scores[f"leak_same{beside}/token_accuracy"] = shares(leaked)
    return make_scored(root / f"{editor}_{scenario}", editor, scenario, scores, **changes)


SCENARIOS = ("unimodal", "transitive", "multimodal", "reverse", "joint")


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """Given in no order: the unedited model in two scenarios, FT in all, ROME from text alone."""
    of_editors = {"ft": SCENARIOS[::-1], "rome": SCENARIOS[:2], "none": SCENARIOS[1:3]}
    return [run(tmp_path, editor, name) for editor, names in of_editors.items() for name in names]


def table_of(runs: Sequence[RunResult]) -> ResultTable:
    table = matrix_table(matrices(entries(runs)))
    assert table is not None
    return table


def test_every_cell_is_the_metric_of_its_scenario(runs: list[RunResult]) -> None:
    table = table_of(runs)
    lines = {(row.heads[1], row.heads[2]): row.cells for row in table.rows}
    assert list(lines) == [
        ("Unedited", "-"),
        *(("FT", edit) for edit in ("text", "picture", "both")),
        *(("ROME", edit) for edit in ("text", "picture", "both")),
    ]
    for (edit, asked), (after, before, leaked) in PLANTED.items():
        first = 0 if asked == "text" else 3
        value, gain, specificity = lines["FT", edit][first : first + 3]
        assert value.text == f"{100 * after / N:.1f}"
        assert gain.text == f"{100 * (after - before) / N:+.1f}"
        assert specificity.text == f"{100 * (after - leaked) / N:+.1f}"
    # What is as high on another subject, or nearly as high before any edit, is not told from 0.
    value, gain, specificity = lines["FT", "text"][3:]
    assert (value.text, gain.mark, specificity.mark) == ("30.0", "", "")
    assert value.floor == "‡§"
    assert (lines["FT", "picture"][1].mark, lines["FT", "picture"][0].floor) == (APART, "")
    assert [note[0] for note in table.notes if note[0] in "‡§"] == ["‡", "§"]


def test_what_is_not_there_is_a_dash(runs: list[RunResult]) -> None:
    lines = {(row.heads[1], row.heads[2]): row for row in table_of(runs).rows}
    assert [cell.text for cell in lines["ROME", "text"].cells][::3] == ["100.0", "30.0"]
    for edit in ("picture", "both"):
        assert lines["ROME", edit].cells == (Cell(),) * 6
        assert lines["ROME", edit].n == "-"
    unedited = lines["Unedited", "-"].cells
    assert [cell.text for cell in unedited] == ["-", "-", "-", "25.0", "+0.0", "+25.0"]


def test_one_cell_is_no_matrix_and_a_joint_edit_is_two(tmp_path: Path) -> None:
    alone = [run(tmp_path, "ft", "unimodal"), run(tmp_path, "mend", "joint")]
    (joint,) = matrices(entries(alone))
    assert joint.name == "MEND"
    assert matrix_table([]) is None
    cells = table_of(alone).rows[2].cells
    assert [cell.text for cell in cells[::3]] == ["90.0", "85.0"]


def test_runs_that_were_judged_otherwise_are_left_out_and_told(tmp_path: Path) -> None:
    names = ("unimodal", "transitive")
    runs = [run(tmp_path, "ft", name) for name in names]
    runs.append(run(tmp_path, "ft", "reverse", data_digest="another"))
    table = table_of(runs)
    assert table.rows[1].cells == (Cell(),) * 6
    assert "FT on llava_tiny: scenario reverse was judged otherwise than unimodal" in " ".join(
        table.notes
    )


def test_results_of_before_gains_and_specificities_are_shown_without(tmp_path: Path) -> None:
    older = [run(tmp_path, "ft", name, variants={}) for name in ("unimodal", "reverse")]
    for row in table_of(older).rows[:2]:
        assert row.cells[0].text != "-"
        assert row.cells[1] == Cell()


def test_the_report_draws_it(runs: list[RunResult], tmp_path: Path) -> None:
    report = build_report(Sources(entries(runs)))
    names = [getattr(block, "name", None) for block in report.walk()]
    assert "matrix" in names
    assert "matrix_llava-tiny" in names
    files = matrix_heat_maps(matrices(entries(runs)), tmp_path / "matrix")
    assert [path.suffix for path in files] == [".png", ".pdf"]
    assert all(path.stat().st_size for path in files)
