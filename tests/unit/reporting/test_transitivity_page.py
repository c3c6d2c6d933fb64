"""The page that says what of a text edit reaches pictures, from folders to files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import report
from tests.result_folders import make_folder, write_groups
from tests.transitive_results import make_pictures, make_text

COUNTRIES = {"model": "smollm_llava", "data": "countries", "data_digest": "d1"}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FT and a method that gives its answer to everybody; FT on other data of another model."""
    tmp_path = tmp_path_factory.mktemp("runs")
    runs = [
        make_text(tmp_path / "ft-text", "ft"),
        make_pictures(
            tmp_path / "ft", "ft", leaked_before=2, by_name=14, by_name_before=2, named=16
        ),
        make_pictures(tmp_path / "ft-both", "ft", 18, scenario="joint", in_text=20),
        make_text(tmp_path / "ike-text", "ike"),
        make_pictures(tmp_path / "ike", "ike", 20, leaked=20, leaked_before=2),
        make_text(tmp_path / "real-text", "ft", **COUNTRIES),
        make_pictures(tmp_path / "real", "ft", 4, named=0, **COUNTRIES),
    ]
    file = tmp_path / "docs" / "page.md"
    folders = [str(run.folder) for run in runs]
    assert report.main([*folders, "--transitivity", str(file)]) == 0
    return file


@pytest.fixture(scope="module")
def page(file: Path) -> str:
    return file.read_text()


def test_the_answer_comes_first_and_says_what_was_measured(page: str) -> None:
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings == [
        "The answer", "From text to the picture", "What is edited by how it is asked",
        "Where the chain breaks", "What closes the gap", "What was run",
    ]  # fmt: skip
    answer = page.partition("## From text")[0]
    assert "Of 3 rows (a model and an editor), 1 answer about the picture above both" in answer
    assert "not told from one of them: IKE on llava_tiny, FT on smollm_llava." in answer
    assert re.search(
        r"above the answer about others, 50 % \S+ \S+ \(FT on llava_tiny\) reaches it", answer
    )
    assert re.search(r"\*\*FT:\*\* 50 % \\\[\d+, \d+\\\] reaches it; \+40.0 .* \+80.0", answer)
    assert "it does not recognise in 1; in 2 more answers are given by chance" in answer
    assert "Specificity_S rises in 1 of 1 rows and falls in 0" in answer
    assert (
        "Asked so, the edit is above the unedited model in Reliability_S in 1 of 1 rows, and in "
        "Specificity_S in 1 of 1." in answer
    )
    assert "**Transitive objective.** Not run." in answer


def test_pictures_lie_beside_it(page: str, file: Path) -> None:
    shown = re.findall(r"\]\(figures/(.*?)\)", page)
    assert shown == [
        "transitivity_matrix_llava_tiny.png", "transitivity_matrix_smollm_llava.png",
        "transitivity_chain_llava_tiny.png", "transitivity_chain_smollm_llava.png",
    ]  # fmt: skip
    drawn = sorted(path.name for path in (file.parent / "figures").iterdir())
    assert drawn == sorted(shown)  # nothing else is left there


def test_what_was_not_run_is_said(page: str) -> None:
    (told,) = re.findall(r"Not run: (.*)\.$", page, re.MULTILINE)
    missing = told.split("; ")
    assert missing[:3] == ["blip2_opt_tiny", "minigpt4_tiny", "smollm_llava_embedding"]
    assert "FT on llava_tiny: multimodal, reverse" in missing
    assert "MEND (transitive objective) on llava_tiny" in missing
    assert "ROME on smollm_llava" in missing
    assert "| llava_tiny | FT | 3 | 20 | 20 | - | - | 20 |" in page
    assert "torch 2.13.0" in page


def test_a_page_is_not_overwritten_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "page.md", str(make_folder(tmp_path / "run", "ft", "transitive"))
    file.write_text("mine")
    assert report.main([folder, "--transitivity", str(file)]) == 2
    assert "is there already: give another file, or --overwrite" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert report.main([folder, "--transitivity", str(file), "--overwrite"]) == 0
    assert file.read_text().startswith("# What part of a text edit")
    assert report.main([folder, "--transitivity", str(tmp_path)]) == 2
    assert "is a folder" in capsys.readouterr().err


def test_results_without_pictures_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_folder(tmp_path / "run", "ft", "unimodal")
    file = tmp_path / "page.md"
    assert report.main([str(folder), "--transitivity", str(file)]) == 2
    assert "scenario=transitive" in capsys.readouterr().err
    assert not file.exists()


def test_earlier_results_are_shown_without_what_they_do_not_say(tmp_path: Path) -> None:
    """Made before gains, names and specificities were: tables that rest on them are left out."""
    folder = make_folder(tmp_path / "run", "ft", "transitive")
    file = tmp_path / "page.md"
    assert report.main([str(folder), "--transitivity", str(file)]) == 0
    page = file.read_text()
    assert "No result says what the model named" in page
    assert "## What was run" in page
    assert "## Where the chain breaks" not in page


def test_the_page_says_what_its_intervals_draw(page: str, tmp_path: Path) -> None:
    assert page.count("ntervals are over records") + page.count("intervals over records") == 2
    make_text(tmp_path / "text", "ft", cluster="target")
    make_pictures(tmp_path / "pictures", "ft", cluster="target")
    for name in ("text", "pictures"):
        targets = [f"t{number % 7}" for number in range(20)]
        write_groups(tmp_path / name, range(20), target=targets, cluster=targets)
    file, folders = tmp_path / "page.md", [str(tmp_path / "text"), str(tmp_path / "pictures")]
    assert report.main([*folders, "--transitivity", str(file)]) == 0
    drawn = file.read_text()
    assert "ntervals over records" not in drawn
    assert "ntervals are over records" not in drawn
    assert "95 % bootstrap intervals over targets." in drawn
    assert "Intervals are over targets: what another seed" in drawn
