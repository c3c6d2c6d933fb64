"""Signals to the user's commands: how they end, and that the same command goes on."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.commands import Warm

pytestmark = pytest.mark.e2e


def wait_until(process: Warm, ready: Path, pattern: str, count: int = 1) -> None:
    """Until a running command has so many files of a kind in a folder."""
    while len(list(ready.glob(pattern))) < count:
        assert not process.ended(), "the run ended too early"
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_evaluation_stops_with_a_sentence(number: int, world: Path, tmp_path: Path) -> None:
    streams, folder = [str(tmp_path / name) for name in ("out", "err")], tmp_path / "run"
    process = Warm(
        ["evaluate.py", "editor=ft", "experiment=demo", f"data.root={world}", "logger=none",
         "evaluate.batch_size=2", "data.filter_known=none", "trainer.enable_progress_bar=false",
         f"output_dir={folder}"],
        streams,
    )  # fmt: skip
    wait_until(process, folder / "partial", "[0-9]*.parquet", 2)
    os.kill(process.pid, number)
    assert process.wait() == 128 + number
    said = Path(streams[1]).read_text()
    assert f"stopped by {signal.Signals(number).name}; the same command with resume=true" in said
    assert f"output_dir={folder}" in said
    assert "Traceback" not in said
    assert not (folder / "summary.json").exists()
