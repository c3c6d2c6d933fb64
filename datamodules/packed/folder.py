"""Which folders hold a data set in Parquet; nothing is opened to tell."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from datamodules.source import Split
from errors import ConfigError

SUFFIX = ".parquet"
FOLDER = "data"  # of the files, inside a data set
# As hubs of data sets name splits; the first name is what we write.
NAMES: Mapping[Split, tuple[str, ...]] = {
    "train": ("train",),
    "val": ("validation", "val", "valid", "dev"),
    "test": ("test",),
}


def is_packed(root: Path) -> bool:
    """Whether a folder has Parquet files, itself or in the folders inside it."""
    return any(parquet_files(root))


def parquet_files(root: Path) -> Iterator[Path]:
    """The Parquet files of a folder and of the folders inside it."""
    return (file for pattern in ("*", "*/*") for file in root.glob(f"{pattern}{SUFFIX}"))


def check_free(output: Path) -> None:
    """Refuses a folder for a data set that holds something.

    Raises:
        ConfigError: it does, or is a file.
    """
    if os.path.lexists(output) and not (os.path.isdir(output) and not os.listdir(output)):
        raise ConfigError(
            f"--output {output} is there already, and nothing is overwritten: name a folder that "
            "is empty or not there."
        )
