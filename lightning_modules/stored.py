"""The configuration inside a checkpoint, for entry points that have not loaded torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def read_stored(path: Path) -> dict[str, Any]:
    """As `training.stored_config`, which loads torch: only where no config.yaml lies beside."""
    from lightning_modules.training import stored_config

    return stored_config(path)
