"""Options of the trainer for trying things, callbacks of a user, and a device that is too small."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
COMMON = (
    "experiment=demo", "logger=none", "data.filter_known=none",
    "trainer.enable_progress_bar=false",
)  # fmt: skip
SAYS = "+callbacks.says._target_=tests.e2e.callbacks.Says"


def train(world: Path, *words: str) -> str:
    options = (*COMMON, "editor=mend", "data.limit=12", "editor.batch_size=2", SAYS)
    return run("train.py", *options, f"data.root={world}", *words)


def notes_of(printed: str, word: str) -> list[dict]:
    lines = [line for line in printed.splitlines() if line.startswith(f"{word} {{")]
    return [json.loads(line.removeprefix(word)) for line in lines]


def test_the_same_batches_again_and_again_with_anomalies_and_a_profile(
    world: Path, tmp_path: Path
) -> None:
    printed = train(
        world, "trainer.overfit_batches=2", "trainer.max_steps=4", "trainer.val_every=2",
        "trainer.detect_anomaly=true", "trainer.profiler=simple", "+callbacks.says.word=edits",
        f"output_dir={tmp_path}",
    )  # fmt: skip
    trained, judged = notes_of(printed, "edits"), notes_of(printed, "validation")
    first, second, third, fourth = (note["edits"] for note in trained)
    assert (first, second) == (third, fourth)
    assert first != second
    assert [note["edits"] for note in judged] == [first + second] * 2
    assert all(note["anomalies"] for note in trained)
    assert "run_training_batch" in (tmp_path / "profile" / "fit-simple.txt").read_text()
    assert "tests.e2e.callbacks.Says" in (tmp_path / "config.yaml").read_text()


def test_a_training_is_tried_and_nothing_written(world: Path, tmp_path: Path) -> None:
    printed = train(world, "trainer.fast_dev_run=true", f"output_dir={tmp_path / 'run'}")
    assert len(notes_of(printed, "batch")) == len(notes_of(printed, "validation")) == 1
    assert "No checkpoint and no result was written" in printed
    assert "best.ckpt" not in printed
    assert not (tmp_path / "run").exists()


def evaluate(world: Path, folder: Path, *words: str, status: int = 0) -> str:
    options = (*COMMON, "editor=ft", "data.limit=6", f"data.root={world}", f"output_dir={folder}")
    return run("evaluate.py", *options, *words, status=status)


def test_an_evaluation_is_tried_and_nothing_written(world: Path, tmp_path: Path) -> None:
    printed = evaluate(world, tmp_path / "run", "trainer.fast_dev_run=1")
    assert "No checkpoint and no result was written" in printed
    assert not (tmp_path / "run").exists()


def test_a_device_that_is_too_small_is_told_and_a_smaller_batch_goes_on(
    world: Path, tmp_path: Path
) -> None:
    small = "+callbacks.small._target_=tests.e2e.callbacks.NoMemory"
    printed = evaluate(world, tmp_path / "run", small, "evaluate.batch_size=4", status=2)
    assert "Traceback" not in printed
    assert "CUDA out of memory. Lower evaluate.batch_size (now 4)" in printed
    assert "model.quantise" in printed
    printed = evaluate(world, tmp_path / "run", "evaluate.batch_size=3", "resume=true")
    assert "4 edits are there already" in printed
    evaluate(world, tmp_path / "whole", "evaluate.batch_size=4")
    made, whole = (
        pd.read_parquet(tmp_path / name / "edits.parquet").drop(columns="seconds")
        for name in ("run", "whole")
    )
    pd.testing.assert_frame_equal(made, whole)


def test_a_training_whose_time_is_up_ends_well_and_goes_on_with_its_callbacks(
    world: Path, tmp_path: Path
) -> None:
    words = ("trainer.max_steps=3", f"output_dir={tmp_path}")
    over = ("trainer.max_time=00:00:00:00", "trainer.profiler=simple")  # before the first step
    printed = train(world, *words, *over)
    assert (
        "trainer.max_time=00:00:00:00 is up after step 1; the same command with resume" in printed
    )
    assert len(notes_of(printed, "batch")) == 2, (
        "the batch at whose beginning it stopped is one of them"
    )
    assert (tmp_path / "checkpoints" / "last.ckpt").is_file()
    assert "optimizer_step" in (tmp_path / "profile" / "fit-simple.txt").read_text()
    printed = train(world, *words, "resume=true", "trainer.max_time=00:01:00:00")
    assert "is up" not in printed
    assert [note["count"] for note in notes_of(printed, "batch")] == [3, 4]
