"""Clean runs, which those on odd input are compared with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from filelock import FileLock

from tests.odd.cases import PICTURES, TEXT
from tests.odd.harness import OUT, run_bound
from tests.odd.records import write_data, write_world
from tests.odd.worlds import WORLD

WORDS = {"text": TEXT, "pictures": PICTURES, "world": WORLD, "finished": TEXT}


class CleanRuns(Mapping[str, Path]):
    """Output folders of runs on sound input by name, made when they are asked for.

    Args:
        base: where they are made; of several test processes the first one does.
    """

    def __init__(self, base: Path) -> None:
        self._base = base

    def __getitem__(self, name: str) -> Path:
        folder = self._base / ("text" if name == "finished" else name)
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._base / f"{folder.name}.lock"):
            if not (folder / OUT / "summary.json").exists():
                write_data(folder / "data")
                write_world(folder / "world")
                status, printed = run_bound("evaluate.py", WORDS[name], folder)
                assert status == 0, printed
        return folder / OUT

    def __iter__(self) -> Iterator[str]:
        return iter(WORDS)

    def __len__(self) -> int:
        return len(WORDS)


@pytest.fixture(scope="session")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """Clean runs by name; "finished" is the one that a case may lose."""
    base = tmp_path_factory.getbasetemp()
    return CleanRuns((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "clean")
