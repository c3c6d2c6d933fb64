"""The folder that a run writes into: chosen, checked and only then made."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import yaml

from configs.overrides import leaves
from configs.schema import RunConfig
from configs.stored import with_current_keys
from errors import ConfigError
from results.files import (
    CONFIG,
    PARTIAL,
    RUN_FILES,
    RUN_FOLDERS,
    SUMMARY,
    differences,
    is_first_process,
    remove_half_written,
    write_text,
)

_HEADER = "# Resolved settings"
_STARTED = "TMKE_STARTED"
# What says where and how fast a run takes place, and nothing of what it finds.
_CHANGES_NO_RESULT = {
    "output_dir", "overwrite", "resume", "threads", "trainer", "logger", "data.num_workers",
}  # fmt: skip


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
        return bool(getattr(config, "resume", False))
    if os.environ.get("SLURM_RESTART_COUNT", "0") != "0":
        return True
    if config.ckpt is None:
        return False
    return _is_inside(Path(config.ckpt), Path(config.output_dir))


def check_output_dir(config: RunConfig) -> None:
    """Refuses a folder that must not be written into; changes nothing.

    Raises:
        ConfigError: output_dir is a file, holds another run, or `overwrite=true` would remove the
            checkpoint that is to be evaluated.
    """
    if not is_first_process():
        return
    folder = Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir={folder} is a file; name a folder.")
    run_files = ", ".join(_run_files(folder))
    if config.command == "evaluate" and resumes(config):
        _check_same_run(config, folder)
        return
    if not run_files or resumes(config):
        return
    if config.ckpt is not None and _is_inside(Path(config.ckpt), folder):
        raise ConfigError(
            f"output_dir={folder} is the folder of the checkpoint {config.ckpt} and would be "
            "overwritten; name another output_dir for the results."
        )
    if not config.overwrite:
        raise ConfigError(
            f"output_dir={folder} already holds a run ({run_files}). Name another folder"
            f"{_how_to_continue(config, folder)}, or add overwrite=true to replace that run."
        )
    if not _has_our_config(folder):
        raise ConfigError(
            f"output_dir={folder} holds {run_files}, but no {CONFIG} of this project, so "
            "overwrite=true would remove files that may not be a run's. Name another folder."
        )


def prepare_output_dir(config: RunConfig) -> Path:
    """Makes the folder of a run and writes config.yaml into it.

    Call it after data and model have loaded, so that bad input leaves nothing behind. With
    `overwrite=true` the files of the previous run go; files that are not ours stay. Only the first
    process of a parallel run writes.

    Raises:
        ConfigError: as `check_output_dir`, or the folder cannot be made.
    """
    folder = Path(config.output_dir)
    if not is_first_process():
        return folder
    check_output_dir(config)
    try:
        if resumes(config):
            remove_half_written(folder)
        else:
            _remove_run(folder)
        folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
        write_text(folder / CONFIG, f"{_HEADER} of {config.command}.py\n{text}")
    except OSError as error:
        raise ConfigError(
            f"output_dir={folder} cannot be written ({error.strerror}); name another folder."
        ) from error
    return folder


def settings_that_decide(plain: dict[str, Any]) -> dict[str, Any]:
    """The settings that fix what a run finds, by dotted name."""
    return {
        key: value
        for key, value in leaves(plain).items()
        if not {key, key.split(".")[0]} & _CHANGES_NO_RESULT
    }


def is_finished(config: RunConfig) -> bool:
    """Whether the run that is to be continued has come to its end already."""
    return resumes(config) and (Path(config.output_dir) / SUMMARY).is_file()


def _check_same_run(config: RunConfig, folder: Path) -> None:
    """Refuses to continue a run with settings that would give it other numbers.

    Raises:
        ConfigError: with every setting that differs.
    """
    path = folder / CONFIG
    if not path.is_file():
        if run_files := ", ".join(_run_files(folder)):
            raise ConfigError(
                f"resume=true: output_dir={folder} holds {run_files} but no {CONFIG}, so it "
                "cannot be told which run that is. Name another folder."
            )
        return
    text = path.read_text(encoding="utf-8", errors="replace")
    if not text.startswith(f"{_HEADER} of {config.command}.py"):
        raise ConfigError(
            f"resume=true: output_dir={folder} is no folder of {config.command}.py. Name the "
            "folder of the run that is to be continued, or a new one."
        )
    try:
        stored = settings_that_decide(with_current_keys(yaml.safe_load(text)))
    except (yaml.YAMLError, AttributeError) as error:
        raise ConfigError(
            f"resume=true: {path} cannot be read ({' '.join(str(error).split())}). Add "
            "overwrite=true to start anew."
        ) from error
    differing = differences(stored, settings_that_decide(config.plain()))
    if differing:
        raise ConfigError(
            f"resume=true: output_dir={folder} holds another run: {'; '.join(differing)}. Type "
            "what was, name another folder, or leave resume out and add overwrite=true."
        )


def _how_to_continue(config: RunConfig, folder: Path) -> str:
    """How to continue the run in a folder, where that is possible."""
    if config.command == "evaluate":
        return ", continue that run with resume=true" if (folder / PARTIAL).is_dir() else ""
    last = folder / "checkpoints" / "last.ckpt"
    is_resumable = config.command == "train" and last.is_file()
    return f", continue its training with ckpt={last}" if is_resumable else ""


def _has_our_config(folder: Path) -> bool:
    """Whether a folder's config.yaml was written by one of our commands."""
    try:
        return (folder / CONFIG).read_text(encoding="utf-8").startswith(_HEADER)
    except (OSError, UnicodeDecodeError):
        return False


def _run_files(folder: Path) -> list[str]:
    """Files and folders of a run in a folder."""
    return [name for name in (*RUN_FILES, *RUN_FOLDERS) if os.path.lexists(folder / name)]


def _remove_run(folder: Path) -> None:
    """Removes what our commands left in a folder."""
    for name in _run_files(folder):
        path = folder / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_inside(path: Path, folder: Path) -> bool:
    return path.expanduser().resolve().is_relative_to(folder.expanduser().resolve())
