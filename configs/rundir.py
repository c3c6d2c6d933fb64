"""The folder that a run writes into: chosen, checked, and only then made and locked."""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import yaml

from configs.continuing import changes
from configs.overrides import leaves, sections_of
from configs.schema import RunConfig
from configs.stored import with_current_keys
from errors import ConfigError
from options import is_on_hub
from results.files import (
    CHECKPOINTS,
    CONFIG,
    HPC_CHECKPOINTS,
    LAST,
    LOG,
    PARTIAL,
    STAGES,
    SUMMARY,
    check_writable,
    differences,
    is_first_process,
    remove_half_written,
    remove_run,
    run_files,
    write_text,
)
from results.lock import check_unlocked, locked
from results.log_file import logged_to

Config = TypeVar("Config", bound=RunConfig)
_HEADER, _BEGUN = "# Resolved settings", "# Begun by "
_OF_THE_FOLDER = {"output_dir", "overwrite", "resume"}  # what tells no two runs apart
# What says where and how fast a run takes place, and nothing of what it finds. Which records
# `data.on_error` leaves out is in the digest of what is asked; `data.allow_overlap` only counts.
_CHANGES_NO_RESULT = {
    "output_dir", "overwrite", "resume", "threads", "trainer", "logger", "cache",
    "data.num_workers", "data.on_error", "data.allow_overlap", "data.train.allow_overlap",
    "callbacks", "score", "evaluate.batch_size", "evaluate.tokens", "gate",
    "pretrain.alignment", "model.device_map", "model.max_memory",
}  # fmt: skip
_DECIDES = {"trainer.precision"}


def default_output_dir(command: str, plain: dict[str, Any], job: int | None) -> Any:
    """Names the folder of a run.

        runs/<command>/<editor>-<model>-<data>-<scenario>/<when>-<settings>

    `when` is the time, or the number of the SLURM job, so that one that is put back into the queue
    finds its folder; `settings` are eight digits of a hash, so that the runs of one job differ.

    Args:
        command: `train`, `evaluate` or `pretrain`.
        plain: the composed configuration.
        job: number of this job in a sweep, None outside.

    Returns:
        A path relative to the working directory, or the given one (with the job's number inside);
        what was given and is no text is left for the check of its type.
    """
    given = plain.get("output_dir")
    if given is not None:
        return given if job is None or not isinstance(given, str) else str(Path(given) / str(job))
    if (folder := _folder_of_checkpoint(command, plain)) is not None:
        return str(folder)
    groups = [plain.get(group) for group in ("editor", "model", "data", "scenario")]
    name = "-".join(str(group["name"]) for group in groups if isinstance(group, dict))
    parts = [_when(), *([] if job is None else [str(job)]), _hash(plain)]
    return str(Path("runs") / command / name / "-".join(parts))


@contextmanager
def reserved_folder(config: Config, composed: dict[str, Any]) -> Iterator[Config]:
    """Keeps a folder that we have named for this run alone, from its beginning on.

    Of two runs that would get the same name, the second one gets another; a folder in which nothing
    was written is gone after the block.

    Args:
        config: the checked configuration.
        composed: as it was composed, which says whether the folder was named by the user.

    Yields:
        The configuration with the folder that the run has.
    """
    is_named = composed.get("output_dir") is not None
    if is_named or _folder_of_checkpoint(config.command, composed) or not is_first_process():
        yield config
        return
    if is_restarted():
        before = _folder_before_restart(Path(config.output_dir))
        config = config.model_copy(update={"output_dir": str(before)})
    folder, number = Path(config.output_dir), 1
    made = [parent for parent in folder.parents if not parent.exists()]
    with _explained(folder):
        while not resumes(config):
            try:
                folder.mkdir(parents=True)
                break
            except FileExistsError:
                number += 1
                folder = Path(f"{config.output_dir}-{number}")
    try:
        yield config.model_copy(update={"output_dir": str(folder)})
    finally:
        for path in (folder, *made):
            with suppress(OSError):
                path.rmdir()


def _folder_before_restart(folder: Path) -> Path:
    """The folder in which this job has begun a run, if its name says another time."""
    if folder.is_dir():
        return folder
    same_settings = folder.parent.glob(f"*-{folder.name.rpartition('-')[2]}*")
    return max((path for path in same_settings if was_begun_by_this_job(path)), default=folder)


def is_restarted() -> bool:
    """Whether a scheduler has started this command before: SLURM from its queue, or torchrun."""
    counts = ("SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT")
    return any(os.environ.get(count, "0") not in ("", "0") for count in counts)


def resumes(config: RunConfig) -> bool:
    """Whether a run goes on in its folder."""
    if getattr(config, "recipe", True) is None:  # a tiny model is taught in one go
        return False
    if getattr(config, "resume", False):
        return True
    if is_restarted():
        return not config.overwrite or was_begun_by_this_job(Path(config.output_dir))
    if config.ckpt is None or config.command == "evaluate":
        return False
    return _is_inside(config.ckpt, Path(config.output_dir))


def check_output_dir(config: RunConfig) -> None:
    """Refuses a folder that must not be written into; changes nothing.

    Raises:
        ConfigError: output_dir is a file, is in use, holds another run, cannot be written, or
            `overwrite=true` would remove the checkpoint that is to be evaluated.
    """
    if is_first_process() and not config.trainer.fast_dev_run:  # which writes nothing
        folder = Path(config.output_dir)
        with _explained(folder):
            check_unlocked(folder)
            _check_content(config)
            if not (resumes(config) and folder.is_dir()):  # it may only be shown
                check_writable(folder, "output_dir=")


@contextmanager
def output_folder(config: RunConfig) -> Iterator[Path]:
    """The folder of a run, for the length of the block: made, locked, and with its config.yaml.

    Enter it after data and model have loaded, so that bad input leaves nothing behind. With
    `overwrite=true` the files of the previous run go; files that are not ours stay. What is logged
    goes into its log.txt. Only the first process of a parallel run writes.

    Raises:
        ConfigError: as `check_output_dir`, or the folder cannot be made.
    """
    folder = Path(config.output_dir)
    if not is_first_process():
        yield folder
        return
    _check_content(config)
    with ExitStack() as held:
        with _explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder))
            _check_content(config)  # another run may have come to its end meanwhile
            if resumes(config):
                remove_half_written(folder)
            else:
                remove_run(folder)
            write_text(folder / CONFIG, _content(config))
        held.enter_context(logged_to(folder / LOG))
        yield folder


@contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """Turns a folder that cannot be written into an error that names the key."""
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"output_dir={folder} cannot be written ({error.strerror or error}); name another "
            "folder."
        ) from error


def _check_content(config: RunConfig) -> None:
    """Refuses a folder for what it holds.

    Raises:
        ConfigError: as `check_output_dir`.
    """
    folder = Path(config.output_dir)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"output_dir={folder} is a file; name a folder.")
    _check_requeued(config, folder)
    held = ", ".join(run_files(folder))
    is_own = config.ckpt is not None and _is_inside(config.ckpt, folder)
    if resumes(config) and not (config.command == "train" and is_own):
        _check_same_run(config, folder)
        return
    if not held or resumes(config):
        return
    if is_own:
        raise ConfigError(
            f"output_dir={folder} is the folder of the checkpoint {config.ckpt} and would be "
            "overwritten; name another output_dir for the results."
        )
    if not config.overwrite and not (is_restarted() and was_begun_by_this_job(folder)):
        raise ConfigError(
            f"output_dir={folder} already holds a run ({held}). Name another folder"
            f"{_how_to_continue(config, folder)}, or add overwrite=true to replace that run."
        )
    if not _has_our_config(folder):
        raise ConfigError(
            f"output_dir={folder} holds {held}, but no {CONFIG} of this project, so "
            "overwrite=true would remove files that may not be a run's. Name another folder."
        )


def _check_requeued(config: RunConfig, folder: Path) -> None:
    """Refuses a training that Lightning would go on with from a checkpoint of its own choice.

    Raises:
        ConfigError: earlier versions left such a checkpoint there, and none of this one is.
    """
    left = sorted(folder.glob(HPC_CHECKPOINTS))
    if config.command != "train" or not (left and resumes(config) and config.ckpt is None):
        return
    if not (folder / CHECKPOINTS / LAST).is_file():
        raise ConfigError(
            f"output_dir={folder} holds {left[-1].name}, which an earlier version wrote when its "
            f"SLURM job was put back into the queue, and no checkpoints/last.ckpt. Go on from it "
            f"with ckpt={left[-1]}, or move it away."
        )


def settings_that_decide(plain: dict[str, Any]) -> dict[str, Any]:
    """The settings that fix what a run finds, by dotted name."""
    return {
        key: value
        for key, value in leaves(plain).items()
        if key in _DECIDES or not sections_of(key) & _CHANGES_NO_RESULT
    }


def is_finished(config: RunConfig) -> bool:
    """Whether the evaluation that is to be continued has come to its end already."""
    return has_result(config) and not (Path(config.output_dir) / PARTIAL).is_dir()


def has_result(config: RunConfig) -> bool:
    """Whether all edits of the evaluation that is to be continued are scored and written."""
    return resumes(config) and (Path(config.output_dir) / SUMMARY).is_file()


def _check_same_run(config: RunConfig, folder: Path) -> None:
    """Refuses to continue a run with settings that would give it other numbers.

    Raises:
        ConfigError: with every setting that differs.
    """
    path = folder / CONFIG
    if not path.is_file():
        if held := ", ".join(run_files(folder)):
            raise ConfigError(
                f"resume=true: output_dir={folder} holds {held} but no {CONFIG}, so it "
                "cannot be told which run that is. Name another folder."
            )
        return
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise ConfigError(f"resume=true: {path} cannot be read ({error.strerror}).") from error
    if not text.startswith(f"{_HEADER} of {config.command}.py"):
        raise ConfigError(
            f"resume=true: output_dir={folder} is no folder of {config.command}.py. Name the "
            "folder of the run that is to be continued, or a new one."
        )
    try:
        stored = with_current_keys(yaml.safe_load(text))
    except (yaml.YAMLError, AttributeError) as error:
        raise ConfigError(
            f"resume=true: {path} cannot be read ({' '.join(str(error).split())}). Add "
            "overwrite=true to start anew."
        ) from error
    if config.command == "train":
        differing = changes(stored, config.plain())[1]
    else:
        differing = differences(*map(settings_that_decide, (stored, config.plain())))
    if differing:
        raise ConfigError(
            f"resume=true: output_dir={folder} holds another run: {'; '.join(differing)}. Type "
            "what was, name another folder, or leave resume out and add overwrite=true."
        )


def _how_to_continue(config: RunConfig, folder: Path) -> str:
    """How to continue the run in a folder, where that is possible."""
    if config.command != "train":
        begun = folder / (PARTIAL if config.command == "evaluate" else STAGES)
        return ", continue that run with resume=true" if begun.is_dir() else ""
    is_resumable = config.command == "train" and (folder / CHECKPOINTS / LAST).is_file()
    return ", continue its training with resume=true" if is_resumable else ""


def _has_our_config(folder: Path) -> bool:
    """Whether a folder's config.yaml was written by one of our commands."""
    try:
        return (folder / CONFIG).read_text(encoding="utf-8").startswith(_HEADER)
    except (OSError, UnicodeDecodeError):
        return False


def _content(config: RunConfig) -> str:
    """config.yaml: the settings, and which job of a scheduler has begun the run."""
    text = yaml.safe_dump(config.plain(), sort_keys=False, allow_unicode=True)
    job = f"{_BEGUN}{_job()}\n" if _job() else ""
    return f"{_HEADER} of {config.command}.py\n{job}{text}"


def was_begun_by_this_job(folder: Path) -> bool:
    """Whether the run in a folder is one that this job was busy with before it was restarted."""
    try:
        lines = (folder / CONFIG).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return False
    return f"{_BEGUN}{_job()}" in lines[:2]


def _job() -> str:
    """This job of a scheduler, by a name that it keeps when it is restarted; empty outside."""
    if slurm := os.environ.get("SLURM_JOB_ID"):
        return f"SLURM job {slurm}"
    if "TORCHELASTIC_RESTART_COUNT" in os.environ:
        return f"torchrun, process {os.getppid()}"  # its agent stays the same
    return ""


def _when() -> str:
    """The time, or the SLURM job as SLURM writes it."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    if array and task:
        return f"{array}_{task}"
    return os.environ.get("SLURM_JOB_ID") or time.strftime("%Y%m%d-%H%M%S")


def _hash(plain: dict[str, Any]) -> str:
    """Eight digits that tell the settings of two runs apart."""
    given = {key: value for key, value in plain.items() if key not in _OF_THE_FOLDER}
    text = json.dumps(leaves(given), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _folder_of_checkpoint(command: str, plain: dict[str, Any]) -> Path | None:
    """The folder of the training that a checkpoint continues; None for anything else."""
    ckpt = str(plain.get("ckpt") or "")
    if command == "evaluate" or not ckpt or is_on_hub(ckpt):
        return None
    folder = Path(ckpt).parent
    return folder.parent if folder.name == CHECKPOINTS else None


def _is_inside(ckpt: str, folder: Path) -> bool:
    return not is_on_hub(ckpt) and Path(ckpt).resolve().is_relative_to(folder.resolve())
