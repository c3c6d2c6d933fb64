"""A data set in Parquet that several tests read."""

from __future__ import annotations

from pathlib import Path

import pytest

from datamodules.__main__ import main
from tests.unit.datamodules.packed_cases import write_files


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of `datasets` for one test."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of records, and the data set that was exported of them."""
    folder = tmp_path_factory.mktemp("packed")
    write_files(folder / "files")
    words = ["data=hub", f"data.root={folder / 'files'}"]
    assert main(["export", *words, "--output", str(folder / "set")]) == 0
    return folder
