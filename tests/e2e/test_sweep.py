"""Real jobs in one process: the second finds nothing of the first, and a sweep goes on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from reporting.paper import paper_columns
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
COUNTING = "tests/e2e/sweep_that_counts.py"
WORDS = (
    "-m", "experiment=demo", "data.limit=2", "data.filter_known=none", "logger=none",
    "trainer.enable_progress_bar=false",
)  # fmt: skip


def states(printed: str) -> list[dict]:
    lines = [line for line in printed.splitlines() if line.startswith("STATE ")]
    return [json.loads(line.removeprefix("STATE ")) for line in lines]


def cells(printed: str, number: int) -> list[str]:
    """The row of a job in the table of a sweep."""
    start = f"│   {number + 1} │"
    (line,) = (line for line in printed.splitlines() if line.startswith(start))
    return [cell.strip() for cell in line.split("│")[1:-1]]


def test_a_job_that_failed_leaves_no_model_behind_and_resume_makes_what_is_missing(
    world: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "editor=ft,none", f"data.root={world}", f"output_dir={tmp_path}")
    more = ("trainer.deterministic=true", "threads=2")
    printed = run(COUNTING, "evaluate", "ft", *words, *more, status=2)
    first, second = states(printed)
    assert first["alive"] == second["alive"] == 0
    assert first == second
    assert "this job is to fail" in printed
    assert "job 2 of 2: editor=none" in printed
    shutil.rmtree(tmp_path / "1")
    printed = run("evaluate.py", *words, "resume=true")
    assert "Finished already" in printed
    for number in range(2):
        metrics = json.loads((tmp_path / str(number) / "summary.json").read_text())["metrics"]
        means = [metrics[name]["mean"] for name in paper_columns("unimodal")]
        measured = [mean for mean in means if mean is not None]
        assert cells(printed, number)[4] == f"{sum(measured) / len(measured):.4g}"


def test_a_job_takes_over_the_model_of_the_job_before_and_scores_the_same(
    world: Path, tmp_path: Path
) -> None:
    words = (*WORDS, "editor=ft", "editor.steps=3", "seed=0,1", f"data.root={world}")
    printed = run("evaluate.py", *words, f"output_dir={tmp_path}")
    assert " ".join(printed.split()).count("that of the job before, no weight is read") == 1
    first, second = (pd.read_parquet(tmp_path / name / "edits.parquet") for name in "01")
    pd.testing.assert_frame_equal(
        second.drop(columns="seconds"), first.drop(columns="seconds"), check_exact=True
    )


def test_a_training_that_failed_leaves_no_model_behind(world: Path, tmp_path: Path) -> None:
    words = (*WORDS, "editor=mend", "seed=0,1", f"data.root={world}", f"output_dir={tmp_path}")
    printed = run(COUNTING, "train", "mend", *words, "trainer.max_steps=1", status=2)
    first, second = states(printed)
    assert first["alive"] == second["alive"] == 0
    assert first == second
    printed = run("train.py", *words, "trainer.max_steps=1", "resume=true")
    assert printed.count("Finished already") == 2
    assert all(float(cells(printed, number)[4]) > 0 for number in range(2))  # validation losses
