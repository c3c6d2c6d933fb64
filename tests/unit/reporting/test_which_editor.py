"""The page that says which editor to take, from folders to the file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import report
from metrics.bootstrap import Estimate
from reporting.entries import Entry
from reporting.which_editor import Part, _answer, score_table, standings
from results.folder import RunResult
from tests.result_folders import make_folder, make_run


def make_many(
    folder: Path, editor: str, protocol: str, reliability: dict[int, float], **changes: object
) -> RunResult:
    """Edits made together or in sequence, whose Generality and Locality are 80."""
    curve = {
        str(n): {
            name: Estimate(mean, mean - 2, mean + 2, n).as_dict()
            for name, mean in (("Reliability", mean), ("Generality", 80.0), ("Locality", 80.0))
        }
        for n, mean in reliability.items()
    }
    fields = {"protocol": {"name": protocol, "n": list(reliability)}, "curve": curve}
    return make_run(folder, editor, **(fields | changes))


def make_single(folder: Path, editor: str, reliability: float = 50.0) -> RunResult:
    return make_run(folder, editor, means={"Reliability": reliability})


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MEND that is the best alone and lost in sequence; FT that is not."""
    tmp_path = tmp_path_factory.mktemp("runs")
    runs = [
        make_single(tmp_path / "none", "none"),
        make_single(tmp_path / "mend", "mend", 100),
        make_single(tmp_path / "ft", "ft", 80),
        make_many(tmp_path / "mend-sequence", "mend", "sequential", {1: 90, 10: 50, 100: 2}),
        make_many(tmp_path / "ft-sequence", "ft", "sequential", {1: 90, 10: 80, 100: 80}),
        make_many(tmp_path / "ft-batch", "ft", "batch", {10: 90, 100: 60}),
    ]
    file = tmp_path / "docs" / "page.md"
    folders = [str(run.folder) for run in runs]
    assert report.main([*folders, "--which-editor", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def page(file: Path) -> str:
    return file.read_text()


def test_the_score_is_the_harmonic_mean_of_its_parts(tmp_path: Path) -> None:
    run = make_many(tmp_path / "run", "ft", "batch", {1: 10, 10: 40, 100: 0})
    ten, hundred = standings(Entry.of(run))  # one edit is one record
    assert (ten.n, hundred.n) == (10, 100)
    assert ten.score == pytest.approx(3 / (1 / 40 + 1 / 80 + 1 / 80))
    assert hundred.score == 0.0


def test_a_part_that_was_not_measured_leaves_no_score(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", means={"Locality": None})
    assert standings(Entry.of(run))[0].score is None
    (row,) = score_table(Part("here", [Entry.of(run)])).rows
    assert row.cells[0].text == "-"


def test_localities_of_text_and_of_pictures_both_count(tmp_path: Path) -> None:
    means = {"Reliability_S": 100.0, "Locality_I": 10.0}
    run = make_run(tmp_path / "run", scenario="multimodal", means=means)
    parts = [100.0, 50.0, 50.0, 50.0, 50.0, 10.0]  # S and U of both, T and I
    expected = len(parts) / sum(1 / part for part in parts)
    assert standings(Entry.of(run))[0].score == pytest.approx(expected)


def test_the_answer_names_the_best_of_each_number_of_edits(page: str) -> None:
    answer = page.partition("## llava")[0]
    assert "**llava_tiny on world, unimodal, 1 edit:** S 60.0 (MEND), 57.1 (FT)." in answer
    assert "10 edits:** S 83.1 (FT in one update)." in answer
    assert "100 edits:** S 80.0 (FT in sequence). Below half of that: 5.7 (MEND in sequence)." in (
        answer
    )
    assert "Unedited" not in answer


def test_who_is_near_a_low_best_is_not_lost_besides(tmp_path: Path) -> None:
    """S of 6.8, 2.9 and 0.7: the second is below half of the first, and near it all the same."""
    reliability = {"mend": 2.5, "ft": 1.0, "lora": 0.25}
    entries = [Entry.of(make_single(tmp_path / n, n, of)) for n, of in reliability.items()]
    (line,) = _answer(Part("here", entries))
    assert [span.text for span in line][1:] == [
        "S 6.8 (MEND), 2.9 (FT). Below half of that: 0.7 (LoRA)."
    ]


def test_each_number_of_edits_has_its_best_over_all_rows(page: str) -> None:
    lines = re.findall(r"^\| (MEND|FT) \| (one alone|in .*?) \| \d+ \| (.*?) \|$", page, re.M)
    assert [made for _, made, _ in lines] == [
        "one alone", "one alone", "in one update", "in sequence", "in sequence"
    ]  # fmt: skip
    scores = {(name, made): cells.split(" | ")[:3] for name, made, cells in lines}
    assert scores["MEND", "one alone"] == ["**60.0**", "-", "-"]
    assert scores["FT", "in one update"] == ["-", "**83.1**", "<u>72.0</u>"]
    assert scores["FT", "in sequence"] == ["-", "<u>80.0</u>", "**80.0**"]


def test_curves_stand_below_with_their_figures(page: str, file: Path) -> None:
    drawn = sorted(path.name for path in (file.parent / "figures").iterdir())
    assert drawn == [
        "editors_llava_tiny_on_world_unimodal_batch.png",
        "editors_llava_tiny_on_world_unimodal_sequential.png",
    ]  # fmt: skip
    assert sorted(re.findall(r"\]\(figures/(.*?)\)", page)) == drawn
    assert "| llava_tiny | MEND | 100 | 100 | 2.0 ± 2.0 |" in page


def test_what_is_not_there_is_said(page: str) -> None:
    assert "Not there: llava_tiny on world, unimodal, in one update: Unedited, MEND;" in page
    assert "6 evaluations" in page


def test_data_sets_of_one_model_are_apart(tmp_path: Path) -> None:
    """Edits of another data set compete among themselves, and have their own curves."""
    of_data = {"zsre": 90, "world": 80}
    runs = [
        make_many(tmp_path / data, "ft", "batch", {10: reliability}, data=data)
        for data, reliability in of_data.items()
    ]
    file = tmp_path / "docs" / "page.md"
    assert report.main([*(str(run.folder) for run in runs), "--which-editor", str(file)]) == 0
    page = file.read_text()
    for data, score in {"zsre": "83.1", "world": "80.0"}.items():
        assert f"**llava_tiny on {data}, unimodal, 10 edits:** S {score} (FT" in page
        assert f"## llava_tiny on {data}, unimodal scenario" in page
    drawn = {path.name for path in (file.parent / "figures").iterdir()}
    assert drawn == {f"editors_llava_tiny_on_{data}_unimodal_batch.png" for data in of_data}


@pytest.mark.parametrize(
    "other", [{"positions": "all"}, {"data_digest": "b"}, {"model_digest": "other"}]
)
def test_rows_that_were_not_measured_alike_are_not_ranked(
    tmp_path: Path, other: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    (key,) = other
    runs = [
        make_many(tmp_path / "ft", "ft", "batch", {10: 90}),
        make_many(tmp_path / "mend", "mend", "batch", {10: 80}, **other),
    ]
    file = tmp_path / "page.md"
    assert report.main([*(str(run.folder) for run in runs), "--which-editor", str(file)]) == 2
    told = capsys.readouterr().err
    assert "cannot be ranked together" in told
    assert f"{key} is" in told
    assert not file.exists()


def test_single_edits_alone_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = make_folder(tmp_path / "run", "ft"), tmp_path / "page.md"
    assert report.main([str(folder), "--which-editor", str(file)]) == 2
    assert "protocol=batch or protocol=sequential" in capsys.readouterr().err
    assert not file.exists()


def test_a_page_is_not_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = make_many(tmp_path / "run", "ft", "batch", {10: 90})
    file = tmp_path / "page.md"
    file.write_text("mine")
    assert report.main([str(run.folder), "--which-editor", str(file)]) == 2
    assert "--which-editor" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert report.main([str(run.folder), "--which-editor", str(file), "--overwrite"]) == 0
