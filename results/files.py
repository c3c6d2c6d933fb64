"""The files of an output folder by name, how they are written, and which process writes them.

Each file is written beside its place and then renamed, so that an interrupted run leaves either the
whole file or none. Nothing here loads more than the standard library: a command line is judged
before anything heavy is imported.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from errors import ConfigError

CONFIG = "config.yaml"  # the resolved settings, of every command
CURVES = "metrics.csv"  # loss curves of a training
EDITS, PROBES, CURVE = "edits.parquet", "probes.parquet", "curve.parquet"
SUMMARY, TABLE = "summary.json", "table.md"
PARTIAL = "partial"  # folder: batches of an evaluation that is going on

# What our commands leave in `output_dir`; nothing else is ever removed.
RUN_FILES = (
    CONFIG, CURVES, "curves.png", "curves.pdf", "curve.png", "curve.pdf", SUMMARY, EDITS, PROBES,
    CURVE, TABLE, "manifest.json",
)  # fmt: skip
RUN_FOLDERS = ("checkpoints", "model", "wandb", PARTIAL)


def check_output(output: Path, file: str, *, overwrite: bool) -> None:
    """Refuses an `--output` that is no folder, or that holds a file which would be replaced.

    Args:
        output: the folder, which need not be there.
        file: what the command writes into it.
        overwrite: whether an earlier one may be replaced.

    Raises:
        ConfigError: the output is taken.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder, new or empty.")
    if (output / file).exists() and not overwrite:
        raise ConfigError(
            f"--output {output} already holds {file}; give another folder, or add --overwrite to "
            "replace it."
        )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` when the block ends without an error.

    Args:
        path: the file to write; its folder is made if it does not exist.

    Yields:
        A path with the same suffix in the same folder (renaming is atomic within one file system).
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; its folder is made if it does not exist."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def remove_half_written(folder: Path) -> None:
    """Removes what a killed run was just writing (`replacing` names it so)."""
    for name in RUN_FILES:
        path = folder / name
        for left in folder.glob(f".{path.stem}-*{path.suffix}"):
            left.unlink()


def is_first_process() -> bool:
    """Whether this is rank 0; the others are started with their rank in the environment."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs, a clause for each key."""
    return [
        f"{key} was {before.get(key)!r} and is {now.get(key)!r}"
        for key in {**before, **now}
        if before.get(key) != now.get(key)
    ]
