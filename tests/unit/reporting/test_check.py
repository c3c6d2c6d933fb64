"""`report.py --check`: runs held against the paper's cells."""

from pathlib import Path

import pytest

import report
from reporting.check import FAIL, NOT_COMPARABLE, PASS, check_entry
from reporting.entries import Entry
from reporting.paper import deviations, paper_row, paper_tables
from results.folder import RunResult
from tests.result_folders import make_folder, make_run

PUBLISHED: dict[str, object] = {
    "model": "llava",
    "data": "tmke",
    "n_edits": 1324,
    "prompt": "published",
    "positions": "all",
    "locality_i": "top10_rank",
}


def as_published(
    folder: Path,
    editor: str = "ft_as_run",
    scenario: str = "unimodal",
    off: float = 0.0,
    **changes: object,
) -> RunResult:
    """A run with the paper's figures; the last column is `off` points away."""
    run = make_run(folder, editor, scenario, model=str(changes.get("model", "llava")))
    means: dict[str, float | None] = dict(paper_row(run) or {})
    for last in list(means)[-1:]:
        means[last] = (means[last] or 0) + off
    return make_run(folder, editor, scenario, means, **(PUBLISHED | changes))


@pytest.mark.parametrize(
    ("off", "verdict"),
    [(0.0, PASS), (3.0, PASS), (-3.0, PASS), (3.04, PASS), (3.06, FAIL), (-3.1, FAIL)],
)
def test_a_cell_passes_within_the_tolerance(tmp_path: Path, off: float, verdict: str) -> None:
    checked = check_entry(Entry.of(as_published(tmp_path, scenario="multimodal", off=off)))
    assert [cell.verdict for cell in checked.cells] == [PASS] * 7 + [verdict]
    assert checked.passes is (verdict == PASS)


def test_a_metric_without_records_is_no_pass(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ft_as_run", means={"Locality": None}, **PUBLISHED)
    cell = check_entry(Entry.of(run)).cells[3]
    assert (cell.metric, cell.verdict, cell.difference) == ("Locality", FAIL, None)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"prompt": "default"}, "prompt is 'default', published 'published'"),
        ({"positions": "answer"}, "positions is 'answer', published 'all'"),
        ({"locality_i": "top1"}, "locality_i is 'top1', published 'top10_rank'"),
        ({"data": "world"}, "data is 'world', published 'tmke'"),
        ({"n_edits": 100}, "n_edits is 100, published 1,324 (the test set) or 566"),
        ({"quantise": "4bit"}, "quantise is '4bit', published None"),
        ({"protocol": {"name": "sequential", "n": [1]}}, "protocol is 'sequential'"),
    ],
)
def test_other_settings_than_the_papers_are_not_comparable(
    tmp_path: Path, change: dict[str, object], reason: str
) -> None:
    checked = check_entry(Entry.of(as_published(tmp_path, **change)))
    assert {cell.verdict for cell in checked.cells} == {NOT_COMPARABLE}
    assert not checked.passes
    assert reason in "; ".join(checked.reasons)
    assert len(checked.reasons) == 1


def test_the_public_part_of_the_test_set_is_comparable(tmp_path: Path) -> None:
    assert check_entry(Entry.of(as_published(tmp_path, n_edits=566))).passes


def test_a_trained_editor_was_trained_as_long_and_as_fast(tmp_path: Path) -> None:
    options = {"max_iterations": 30_000, "lr": 1e-6}
    assert check_entry(Entry.of(as_published(tmp_path, "mend", editor_options=options))).passes
    short = as_published(tmp_path, "mend", editor_options=options | {"max_iterations": 1920})
    assert deviations(short) == ["editor.max_iterations is 1920, published 30000"]
    for positions, reasons in (
        ("all", []),
        ("answer", ["training.metrics.positions is 'answer', published 'all'"]),
        (None, ["training.metrics.positions is 'answer', published 'all'"]),  # an older result
    ):
        metrics = {"metrics": {"positions": positions}} if positions else {}
        training = {"seed": 0} | metrics
        made = as_published(tmp_path, "mend", editor_options=options, training=training)
        assert deviations(made) == reasons
    serac = as_published(tmp_path, "serac", editor_options=options)
    assert deviations(serac) == ["editor.lr is 1e-06, published 1e-05"]


@pytest.mark.parametrize(
    "change",
    [
        {"editor": "lora"},
        {"editor": "mend_descent"},
        {"editor": "none"},
        {"editor": "ft_l"},
        {"editor": "rome", "scenario": "multimodal"},
        {"model": "llava_tiny"},
    ],
)
def test_runs_without_a_row_in_the_paper_say_so(tmp_path: Path, change: dict[str, str]) -> None:
    checked = check_entry(Entry.of(as_published(tmp_path, **({"editor": "ft_as_run"} | change))))
    assert not checked.cells
    assert not checked.passes
    assert checked.reasons[0].startswith("no paper row for")


def call(*words: object) -> int:
    return report.main([str(word) for word in words])


def test_the_command_says_pass_or_fail_of_each_cell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    as_published(tmp_path / "good")
    assert call("--check", tmp_path / "good") == 0
    shown = capsys.readouterr().out
    assert "Table 1 (unimodal), LLaVA-1.5, FT (as run): 1324 edits" in shown
    assert "│ Portability │  20.3 ± 3.0 │  20.3 │       +0.0 │       3.0 │ pass" in shown
    assert "5 of 5 cells pass" in shown

    as_published(tmp_path / "bad", "ike", off=-7)
    assert call("--check", tmp_path / "good", tmp_path / "bad") == 1
    shown = capsys.readouterr().out
    assert "│ Stability   │  49.2 ± 3.0 │  56.2 │       -7.0 │       3.0 │ fail" in shown
    assert "9 of 10 cells pass; 1 fail" in shown

    as_published(tmp_path / "other", "mend", prompt="default", editor_options={})
    make_run(tmp_path / "tiny", "ft")
    assert call("--check", tmp_path / "other", tmp_path / "tiny") == 1
    shown = capsys.readouterr().out
    assert "not comparable: prompt is 'default'" in shown
    assert "no paper row for ft on llava_tiny in the unimodal scenario" in shown
    assert "0 of 5 cells pass; 5 not comparable; 1 of 2 rows have no paper row" in shown
    assert not (tmp_path / "report").exists()


def test_check_and_report_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "run")
    assert call("--check", folder, "--output", tmp_path / "report") == 1
    assert (tmp_path / "report" / "report.md").is_file()
    assert "no paper row" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [(["--check", "nowhere"], "does not exist"), (["nowhere"], "--output DIR is required")],
)
def test_errors_of_the_command_line(
    words: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1


def test_the_tolerance_and_the_sizes_stand_in_the_papers_file() -> None:
    tables = paper_tables()
    assert tables["tolerance"] == 3.0
    assert sorted(tables["records"].values()) == [566, 1324]
