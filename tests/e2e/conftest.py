"""What the tests of all commands share: one world, drawn once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from filelock import FileLock

from datamodules.world import generate_world


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The default world; where several test processes run, the first one draws it for all."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "world.lock"):
        generate_world(folder / "world", seed=0, size=50)
    return folder / "world"
