"""The files of an output folder by name, how they are written, and which process writes them.

Each file is written beside its place, brought to the disk and then renamed, so that a run that is
killed, or a machine that stops, leaves either the whole file or none. Nothing here loads more than
the standard library: a command line is judged before anything heavy is imported.
"""

import errno
import os
import re
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from errors import ConfigError, DataError

CONFIG = "config.yaml"  # the resolved settings, of every command
CURVES = "metrics.csv"  # loss curves of a training
EDITS, PROBES, CURVE = "edits.parquet", "probes.parquet", "curve.parquet"
SUMMARY, TABLE = "summary.json", "table.md"
LOG = "log.txt"  # what was logged
PROFILE = "profile"  # folder: reports of trainer.profiler
PARTIAL = "partial"  # folder: batches of an evaluation that is going on
STAGES = "stages"  # folder: what the stages of a pretraining have come to
PARTS = "parts"  # folder: what a pretraining adds to the language model that it builds around
REJECTED = "rejected"  # folder: a pretrained model that missed its targets, kept for inspection
_WAITING = 16  # threads that wait until files are on the disk

# What our commands leave in `output_dir`; nothing else is ever removed.
RUN_FILES = (
    CONFIG, LOG, CURVES, "curves.png", "curves.pdf", "curve.png", "curve.pdf", SUMMARY, EDITS,
    PROBES, CURVE, TABLE, "manifest.json",
)  # fmt: skip
HPC_CHECKPOINTS = "hpc_ckpt_*.ckpt"  # what Lightning left under SLURM in earlier versions
CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"  # folder of a training, its files
RUN_FOLDERS = (CHECKPOINTS, "model", "wandb", PROFILE, PARTIAL, STAGES, PARTS, REJECTED)


class UnwritableError(DataError, OSError):
    """A file cannot be written: a full disk, one that is read-only, or one that is gone.

    It is both: who can go on without the file catches an `OSError`, and anyone else ends with the
    message.
    """

    def __init__(self, path: Path, error: Exception) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        self.message = (
            f"{path} cannot be written ({reason}), and what was there is unchanged. Make room, or "
            "make the place writable, and start again."
        )
        super().__init__(self.message)
        self.errno, self.strerror = getattr(error, "errno", None), reason

    def __str__(self) -> str:
        return self.message


def check_output(output: Path, file: str, *, overwrite: bool) -> None:
    """Refuses an `--output` that cannot be written, or that holds a file which would be replaced.

    Args:
        output: the folder, which need not be there.
        file: what the command writes into it.
        overwrite: whether an earlier one may be replaced.

    Raises:
        ConfigError: the output is taken, or nothing can be written there.
    """
    if output.exists() and not output.is_dir():
        raise ConfigError(f"--output {output} is a file; give a folder, new or empty.")
    check_writable(output, "--output ")
    if (output / file).exists() and not overwrite:
        raise ConfigError(
            f"--output {output} already holds {file}; give another folder, or add --overwrite to "
            "replace it."
        )


def check_writable(folder: Path, key: str) -> None:
    """Refuses a folder that nothing can be written into, as far as can be seen without writing.

    Args:
        folder: need not be there.
        key: what names it, as `output_dir=`, for the message.

    Raises:
        ConfigError: with the reason.
    """
    if reason := why_unwritable(folder):
        raise ConfigError(f"{key}{folder} cannot be written ({reason}); name another folder.")


def why_unwritable(folder: Path) -> str:
    """Why nothing can be written into a folder, which need not be there; empty where it can."""
    try:
        place = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        if not place.is_dir():
            return f"{place} is no folder"
        for name in folder.absolute().relative_to(place.absolute()).parts:
            with suppress(FileNotFoundError):
                os.stat(place / name)  # the system says which names are too long for it
        if os.access(place, os.W_OK | os.X_OK):
            return ""
        has_flags = hasattr(os, "statvfs")  # Windows has not
        is_read_only = has_flags and os.statvfs(place).f_flag & os.ST_RDONLY
    except OSError as error:
        return str(error.strerror)
    return os.strerror(errno.EROFS if is_read_only else errno.EACCES)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file that takes the place of `path` when the block ends without an error.

    Args:
        path: the file to write; its folder is made if it does not exist.

    Yields:
        A path with the same suffix in the same folder (renaming is atomic within one file system).

    Raises:
        UnwritableError: it could not be written, brought to the disk or renamed; `path` is as it
            was.
    """
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        _to_disk(temporary)
        temporary.replace(path)
    except Exception as error:
        if not _is_of_disk(error):
            raise
        raise UnwritableError(path, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    _folder_to_disk(path.parent)


@contextmanager
def replacing_folder(folder: Path, *, overwrite: bool = True) -> Iterator[Path]:
    """A new folder that takes the place of `folder` when the block ends without an error.

    Args:
        folder: made if it does not exist.
        overwrite: whether one that is there and not empty gives way, once the new one is complete
            on the disk; otherwise it stays, and the new one goes.

    Yields:
        An empty folder beside it.

    Raises:
        UnwritableError: something could not be written, brought to the disk or renamed; a folder
            that was there is as it was.
    """
    final = folder.resolve()
    temporary, former = _beside(final), _beside(final)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _all_to_disk(temporary)
        if overwrite and final.is_dir() and any(final.iterdir()):
            final.rename(former)
        try:
            temporary.rename(final)
        except OSError:
            if former.is_dir():
                former.rename(final)
            raise
    except Exception as error:
        if not _is_of_disk(error):
            raise
        raise UnwritableError(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _folder_to_disk(final.parent)
    shutil.rmtree(former, ignore_errors=True)


def _is_of_disk(error: Exception) -> bool:
    """Whether the disk is at fault; safetensors has a kind of error of its own for that too."""
    return isinstance(error, OSError) or type(error).__name__ == "SafetensorError"


# Earlier versions had no random part.
_BESIDE = re.compile(r"\.(?P<stem>.+?)-\d+(-[0-9a-f]{6})?(?P<suffix>(\.[^.]*)?)")


def _beside(path: Path) -> Path:
    """A hidden name in the same folder, of no other process (two machines may have equal ids)."""
    return path.with_name(f".{path.stem}-{os.getpid()}-{secrets.token_hex(3)}{path.suffix}")


def _to_disk(file: Path) -> None:
    """Waits until a file's content is on the disk: a rename may get there before it."""
    with file.open("rb+") as content:
        os.fsync(content.fileno())


def _all_to_disk(folder: Path) -> None:
    """The same for all files below a folder and their names.

    Several threads wait: a disk writes what many wait for in little more time than for one of them.
    """
    folders, files = [folder], list[Path]()
    for path in folder.rglob("*"):
        (folders if path.is_dir() else files).append(path)
    with ThreadPoolExecutor(min(_WAITING, len(files) or 1)) as threads:
        list(threads.map(_to_disk, files))
    for below in folders:
        _folder_to_disk(below)


def _folder_to_disk(folder: Path) -> None:
    """The same for the names in a folder; some file systems cannot, and a name is no content."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a text file whole or not at all; its folder is made if it does not exist."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def run_files(folder: Path) -> list[str]:
    """Names of the files and folders of a run in an output folder."""
    ours = [name for name in (*RUN_FILES, *RUN_FOLDERS) if os.path.lexists(folder / name)]
    return ours + sorted(path.name for path in folder.glob(HPC_CHECKPOINTS))


def remove_run(folder: Path) -> None:
    """Removes what our commands left in an output folder, and what they were just writing.

    config.yaml, by which `overwrite=true` knows the others as ours, goes last: a removal that is
    killed can be begun anew.
    """
    remove_half_written(folder)
    for name in sorted(run_files(folder), key=CONFIG.__eq__):
        _remove(folder / name)


def remove_half_written(folder: Path, names: Collection[str] = (*RUN_FILES, *RUN_FOLDERS)) -> None:
    """Removes what a killed run was just writing, there and in a run's own folders.

    Args:
        folder: where it wrote.
        names: what it writes there.
    """
    for path in folder.glob(".*"):
        if _final_name(path) in names:
            _remove(path)
    for name in RUN_FOLDERS:
        for path in (folder / name).glob(".*"):
            if _final_name(path):
                _remove(path)


def _final_name(path: Path) -> str | None:
    """The name that a half-written file would have got; None of any other file."""
    match = _BESIDE.fullmatch(path.name)
    return None if match is None else match["stem"] + match["suffix"]


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


_INTERACTIVE = ("bash", "interactive")  # names of SLURM jobs whose commands do not begin with srun
# What schedulers and launchers say of a process among others.
RANK_VARIABLES = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE",
    "TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "SLURM_PROCID", "SLURM_LOCALID",
    "SLURM_NODEID", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE", "JSM_NAMESPACE_RANK",
    "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE",
)  # fmt: skip


def is_first_process() -> bool:
    """Whether this is rank 0: in the process group, and before there is one in the environment.

    The environment is read as Lightning reads it: a variable of another launcher means nothing.
    """
    distributed = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return bool(distributed.get_rank() == 0)
    return all(os.environ.get(name, "0") == "0" for name in _rank_variables())


def is_one_of_several() -> bool:
    """Whether somebody else has started this process together with others."""
    return any(name in os.environ for name in _rank_variables())


def _rank_variables() -> tuple[str, ...]:
    """What says which of several processes this one is, if it is one of several."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return ("RANK",)
    if "SLURM_NTASKS" in os.environ and os.environ.get("SLURM_JOB_NAME") not in _INTERACTIVE:
        return ("SLURM_PROCID",)
    return ("LOCAL_RANK", "NODE_RANK" if "NODE_RANK" in os.environ else "GROUP_RANK")


def forget_ranks() -> None:
    """Makes a run of one process the first one, whatever a farm has left in the environment.

    Call it before torch and Lightning are imported, which read some of it then.
    """
    for name in RANK_VARIABLES:
        os.environ.pop(name, None)


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs, a clause for each key."""
    clauses = []
    for key in {**before, **now}:
        if key not in before:
            clauses.append(f"{key} is {now[key]!r} and was not noted then")
        elif key not in now:
            clauses.append(f"{key} was {before[key]!r} and is not known any more")
        elif before[key] != now[key]:
            clauses.append(f"{key} was {before[key]!r} and is {now[key]!r}")
    return clauses
