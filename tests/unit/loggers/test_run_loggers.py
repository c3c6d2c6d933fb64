"""metrics.csv: whole lines, whatever the disk does and wherever a training is continued."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest

from loggers.curve_file import CurveFile


def lines(folder: Path) -> list[dict[str, float]]:
    table = pd.read_csv(folder / "metrics.csv")
    return [{str(k): v for k, v in row.dropna().items()} for _, row in table.iterrows()]


@contextmanager
def full_disk(room: int) -> Iterator[None]:
    """No file can grow beyond `room` bytes; what fits is written, as on a disk that fills up."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_curves_are_kept_as_they_were_logged(tmp_path: Path) -> None:
    curves = CurveFile(tmp_path)
    curves.log_metrics({"train/loss": 0.5}, 0)
    curves.save()
    curves.log_metrics({"train/loss": 0.25}, 1)
    curves.save()
    curves.log_metrics({"val/loss": 1 / 3}, 1)  # a column that the file has not got yet
    curves.log_metrics({"train/loss": 0.125}, 2)
    curves.finalize("success")
    assert lines(tmp_path) == [
        {"step": 0, "train/loss": 0.5},
        {"step": 1, "train/loss": 0.25},
        {"step": 1, "val/loss": 1 / 3},
        {"step": 2, "train/loss": 0.125},
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]


def test_a_continued_training_keeps_what_came_before_its_checkpoint(tmp_path: Path) -> None:
    first = CurveFile(tmp_path)
    for step in range(4):
        first.log_metrics({"train/loss": float(step)}, step)
    first.finalize("success")
    again = CurveFile(tmp_path, continue_after=2)
    again.log_metrics({"train/loss": 20.0}, 2)
    assert len(lines(tmp_path)) == 4, "the old file stays until the new one is there"
    again.finalize("success")
    assert [row["train/loss"] for row in lines(tmp_path)] == [0, 1, 20]


def test_a_new_training_starts_a_new_file(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        curves = CurveFile(tmp_path)
        curves.log_metrics({"train/loss": value}, 0)
        curves.finalize("success")
    assert lines(tmp_path) == [{"step": 0, "train/loss": 2.0}]


@pytest.mark.parametrize("column", ["train/loss", "val/loss"])
def test_a_full_disk_ends_no_training_and_cuts_no_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, column: str
) -> None:
    """`val/loss` is a new column: the whole file has to be written anew."""
    curves = CurveFile(tmp_path)
    curves.log_metrics({"train/loss": 0.5}, 0)
    curves.save()
    before = (tmp_path / "metrics.csv").read_bytes()
    for step in range(1, 40):
        curves.log_metrics({column: 1 / step}, step)
    with caplog.at_level(logging.WARNING), full_disk(len(before) + 25):
        curves.save()
        curves.save()
    assert (tmp_path / "metrics.csv").read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["metrics.csv"]
    (told,) = caplog.messages
    assert f"{tmp_path}/metrics.csv cannot be written (File too large)" in told
    curves.finalize("success")  # there is room again
    assert [row[column] for row in lines(tmp_path)[1:]] == [1 / step for step in range(1, 40)]
