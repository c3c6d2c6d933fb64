"""Output folders as a command leaves them that did nothing else."""

from __future__ import annotations

from pathlib import Path

from configs.rundir import output_folder
from configs.schema import RunConfig


def prepared(config: RunConfig) -> Path:
    """The folder of a run that has ended, with its config.yaml."""
    with output_folder(config) as folder:
        return folder
