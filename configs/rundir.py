"""The folder that a run writes into: chosen, checked and only then made."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from configs.schema import RunConfig
from errors import ConfigError

# What our commands leave in `output_dir`; nothing else is ever removed.
RUN_FILES = (
    "config.yaml",
    "metrics.csv",
    "curves.png",
    "curves.pdf",
    "summary.json",
    "edits.parquet",
    "table.md",
    "manifest.json",
)
RUN_FOLDERS = ("checkpoints", "model", "wandb")
CONFIG = "config.yaml"
_HEADER = "# Resolved settings"
_STARTED = "TMKE_STARTED"


def default_output_dir(command: str, plain: dict[str, Any], job: int | None) -> str:
    """Names the folder of a run: runs/<command>/<editor>-<model>-<data>-<scenario>/<time>.

    The time is that of the first process: the processes of a parallel run inherit it, and agree.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the composed configuration.
        job: number of this job in a sweep, None outside.

    Returns:
        A path relative to the working directory, or the given one (with the job's number inside).
    """
    given = plain.get("output_dir")
    if given is not None:
        return str(given) if job is None else str(Path(str(given)) / str(job))
    if command != "evaluate" and plain.get("ckpt"):
        folder = Path(str(plain["ckpt"])).parent
        if folder.name == "checkpoints":
            return str(folder.parent)
    stamp = os.environ.get("SLURM_JOB_ID") or os.environ.setdefault(
        _STARTED, time.strftime("%Y%m%d-%H%M%S")
    )
    groups = [plain.get(group) for group in ("editor", "model", "data", "scenario")]
    name = "-".join(str(group["name"]) for group in groups if isinstance(group, dict))
    return str(Path("runs") / command / name / (stamp if job is None else f"{stamp}-{job}"))


def resumes(config: RunConfig) -> bool:
    """Whether a run goes on in the folder that its checkpoint lies in."""
    if config.command == "evaluate":
        return False
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        return True
    if config.ckpt is None:
        return False
    return _inside(Path(config.ckpt), Path(config.output_dir))


def check_output_dir(config: RunConfig) -> None:
    """Refuses a folder that must not be written into; changes nothing.

    Args:
        config: the checked configuration.

    Raises:
        ConfigError: output_dir is a file, holds another run, or `overwrite=true` would remove the
            checkpoint that is to be evaluated.
    """
    if not first_process():
        return
    folder = Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir={folder} is a file; name a folder.")
    held = _held(folder)
    if not held or resumes(config):
        return
    if config.ckpt is not None and _inside(Path(config.ckpt), folder):
        raise ConfigError(
            f"output_dir={folder} is the folder of the checkpoint {config.ckpt} and would be "
            "overwritten; name another output_dir for the results."
        )
    if not config.overwrite:
        raise ConfigError(
            f"output_dir={folder} already holds a run ({', '.join(held)}). Name another folder"
            f"{_going_on(config, folder)}, or add overwrite=true to replace that run."
        )
    if not _ours(folder):
        raise ConfigError(
            f"output_dir={folder} holds {', '.join(held)}, but no {CONFIG} of this project, so "
            "overwrite=true would remove files that may not be a run's. Name another folder."
        )


def prepare_output_dir(config: RunConfig) -> Path:
    """Makes the folder of a run and writes config.yaml into it.

    Call it after data and model have loaded, so that bad input leaves nothing behind. With
    `overwrite=true` the files of the previous run go; files that are not ours stay. Only the first
    process of a parallel run writes.

    Args:
        config: the checked configuration.

    Returns:
        The folder.

    Raises:
        ConfigError: as `check_output_dir`, or the folder cannot be made.
    """
    folder = Path(config.output_dir)
    if not first_process():
        return folder
    check_output_dir(config)
    try:
        if not resumes(config):
            _remove_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
        (folder / CONFIG).write_text(f"{_HEADER} of {config.command}.py\n{text}", encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"output_dir={folder} cannot be written ({error.strerror}); name another folder."
        ) from error
    return folder


def _going_on(config: RunConfig, folder: Path) -> str:
    """How to continue the training in a folder, where that is possible."""
    last = folder / "checkpoints" / "last.ckpt"
    goes_on = config.command == "train" and last.is_file()
    return f", continue its training with ckpt={last}" if goes_on else ""


def _ours(folder: Path) -> bool:
    """Whether a folder's config.yaml was written by one of our commands."""
    try:
        return (folder / CONFIG).read_text(encoding="utf-8").startswith(_HEADER)
    except (OSError, UnicodeDecodeError):
        return False


def _held(folder: Path) -> list[str]:
    """Files and folders of a run in a folder."""
    return [name for name in (*RUN_FILES, *RUN_FOLDERS) if os.path.lexists(folder / name)]


def _remove_run(folder: Path) -> None:
    """Removes what our commands left in a folder."""
    for name in _held(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _inside(path: Path, folder: Path) -> bool:
    return path.expanduser().resolve().is_relative_to(folder.expanduser().resolve())


def first_process() -> bool:
    """Whether this is rank 0; the others are started with their rank in the environment."""
    ranks = ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID", "RANK")
    return all(os.environ.get(name, "0") == "0" for name in ranks)
