"""What a sweep saves is told of the same jobs with the same numbers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmarks import sweep
from results.files import EDITS


def test_jobs_have_the_numbers_that_the_sweep_gives_them() -> None:
    assert sweep.jobs_of(["editor=none,ft", "data.limit=3", "seed=0,1"]) == [
        ["editor=none", "data.limit=3", "seed=0"],
        ["editor=none", "data.limit=3", "seed=1"],
        ["editor=ft", "data.limit=3", "seed=0"],
        ["editor=ft", "data.limit=3", "seed=1"],
    ]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["editor=ft"], "a sweep has a key with several values"),
        (["editr=none,ft"], "editr"),
        (["editor=none,ft", "output_dir=here"], "output_dir is set by the benchmark"),
        (["editor=none,ft", "cache=on"], "cache is set by the benchmark"),
    ],
)
def test_words_without_use_are_refused(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sweep.main(words)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(("value", "differs"), [(0.5, False), (0.5 + 1e-7, True)])
def test_times_may_differ_and_numbers_may_not(tmp_path: Path, value: float, differs: bool) -> None:
    for name, seconds, number in (("swept", 1.0, 0.5), ("single", 2.0, value)):
        (tmp_path / name).mkdir()
        table = pd.DataFrame({"edit_id": [0], "value": [number], "seconds": [seconds]})
        table.to_parquet(tmp_path / name / EDITS)
    if differs:
        with pytest.raises(AssertionError, match="value"):
            sweep.compare(tmp_path / "swept", tmp_path / "single")
    else:
        sweep.compare(tmp_path / "swept", tmp_path / "single")


@pytest.mark.odd
def test_real_commands_are_timed_and_compared(capsys: pytest.CaptureFixture[str]) -> None:
    sweep.main(["editor=none", "scenario=unimodal,transitive", "data.limit=2"])
    assert "2 jobs" in (said := capsys.readouterr().out)
    assert "the numbers are equal" in said
