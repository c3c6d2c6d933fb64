"""Clean runs, which those on odd input are compared with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from tests.odd.cases import PICTURES, TEXT
from tests.odd.harness import OUT, run_bound
from tests.odd.records import write_data, write_world
from tests.odd.worlds import WORLD


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Output folders of runs on sound input; of several test processes the first one makes them."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    made = {}
    with FileLock(base / "clean.lock"):
        for name, words in (("text", TEXT), ("pictures", PICTURES), ("world", WORLD)):
            folder = base / "clean" / name
            made[name] = folder / OUT
            if not (made[name] / "summary.json").exists():
                write_data(folder / "data")
                write_world(folder / "world")
                status, printed = run_bound("evaluate.py", words, folder)
                assert status == 0, printed
    return {**made, "finished": made["text"]}
