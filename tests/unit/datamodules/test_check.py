"""`python -m datamodules check`: what is in a data set, what is wrong with it, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from datamodules.__main__ import main
from tests.benchmark_files import write_json
from tests.unit.datamodules.test_text_benchmarks import ZSRE


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    """Two records of zsRE that can be used, and one that has no new answer."""
    firms = [{**ZSRE, "subject": name, "src": f"What is made by {name}?"} for name in "ABC"]
    firms[1]["alt"] = ""
    write_json(tmp_path / "a.json", firms)
    return ["data=zsre", f"data.root={tmp_path}"]


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["check", *words])
    out, err = capsys.readouterr()
    return code, out, err


def checked(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    """The status, and what is said in JSON."""
    code, out, err = run(capsys, *words, "--json")
    assert err == ""
    return code, json.loads(out)


def test_reading_goes_on_and_lists_what_cannot_be_used(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    code, report = checked(capsys, *words)
    assert code == 1
    assert report["splits"]["test"]["records"] == 2
    [problem] = [p for p in report["problems"] if p["kind"] == "unusable"]
    assert (problem["split"], problem["count"], problem["of"]) == ("test", 1, 3)
    assert "record 1 of" in problem["examples"][0]
    code, out, err = run(capsys, *words)
    assert (code, err) == (1, "")
    assert "test: 1 of 3 records cannot be used" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "choose the data: data is one of cckeb,"),
        (("data=zsrre",), "did you mean zsre?"),
        (("data=zsre",), "data.root is required"),
        (("data=zsre", "data.root=/no/such/folder"), "there is no such folder"),
        (("data=zsre", "model=llava"), "model: only data=NAME"),
        (("data=zsre", "data.root=.", "data.rot=x"), "did you mean data.root"),
        (("data=zsre", "data.root=.", "data.train=tmke"), "data.train.root is required"),
    ],
)
def test_a_mistake_of_the_user_ends_with_status_2(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert message in err


def test_an_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "data=zsre", "--jsno"])
    assert "unrecognized arguments: --jsno" in capsys.readouterr().err
