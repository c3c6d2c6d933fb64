"""One live run in a folder, a folder for each run, and what stays there of a killed one."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configs import schema
from configs.check import build, load_config
from configs.composing import compose_plain, hydra_ready
from configs.rundir import check_output_dir, output_folder, reserved_folder, resumes
from errors import ConfigError, DataError, Stopped
from results.files import run_files
from results.lock import LOCK
from results.log_file import recent
from tests.conftest import ROOT
from tests.disks import disk_in_memory
from tests.output_folders import prepared

HOLD = """
import sys, time
from pathlib import Path
from results.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def train(*words: str) -> schema.RunConfig:
    return load_config("train", words)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the folder `run`."""
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_a_second_live_run_is_refused_with_who_holds_the_folder(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    for words in ((), ("overwrite=true",)):
        with pytest.raises(ConfigError, match=rf"is in use: process {holder.pid} on .*, since 20"):
            check_output_dir(train("output_dir=run", *words))
        with pytest.raises(ConfigError, match="Name another folder, or wait"):
            prepared(train("output_dir=run", *words))
    assert [path.name for path in (tmp_path / "run").iterdir()] == [LOCK]
    assert run_files(tmp_path / "run") == [], "a lock is no run"


def test_a_killed_run_holds_nothing(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    holder.kill()
    holder.wait()
    check_output_dir(train("output_dir=run"))
    assert (tmp_path / "run" / LOCK).exists()
    prepared(train("output_dir=run"))
    assert not (tmp_path / "run" / LOCK).exists()


def test_a_child_that_outlives_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    """The workers that load batches are forks, and end seconds after the process they serve."""
    forks = HOLD.replace(
        '    print("held"', '    import os\n    if os.fork() == 0: time.sleep(60)\n    print("held"'
    )
    (tmp_path / "run").mkdir()
    command = [sys.executable, "-c", forks, str(tmp_path / "run")]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.wait()
    prepared(train("output_dir=run"))
    os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_without_locks_costs_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def none(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", none)
    prepared(train("output_dir=run"))
    assert (tmp_path / "run" / "config.yaml").is_file()
    assert "has no locks" in caplog.text


def test_runs_of_one_allocation_do_not_share_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    folders = [train(f"seed={seed}").output_dir for seed in (0, 1, 0)]
    assert folders[0] == folders[2] != folders[1], "a requeued job finds its folder"
    assert all(re.search(r"/41-[0-9a-f]{8}$", folder) for folder in folders)
    assert train("trainer.max_steps=5").output_dir not in folders
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "40")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert "/40_3-" in train().output_dir


def composed(*words: str) -> tuple[schema.RunConfig, dict[str, Any]]:
    with hydra_ready():
        plain = compose_plain("train", list(words))
    return build("train", plain, words), plain


def test_two_runs_of_one_second_get_a_folder_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.strftime", lambda *_: "20261126-042011")
    config, plain = composed("experiment=demo")
    with reserved_folder(config, plain) as first, reserved_folder(config, plain) as second:
        assert second.output_dir == f"{first.output_dir}-2"
        for one in (first, second):
            prepared(one)
    assert (tmp_path / second.output_dir / "config.yaml").is_file()
    with reserved_folder(config, plain) as third:
        assert third.output_dir == f"{first.output_dir}-3"


def test_a_run_that_wrote_nothing_leaves_no_folder(tmp_path: Path) -> None:
    config, plain = composed("experiment=demo")

    def fails() -> None:
        with reserved_folder(config, plain) as own:
            assert Path(own.output_dir).is_dir()
            raise ConfigError("bad input")

    with pytest.raises(ConfigError, match="bad input"):
        fails()
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_the_user_named_is_taken_as_it_is(tmp_path: Path) -> None:
    config, plain = composed("experiment=demo", "output_dir=run")
    with reserved_folder(config, plain) as same:
        assert same is config
        assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("count", ["SLURM_RESTART_COUNT", "TORCHELASTIC_RESTART_COUNT"])
def test_a_restarted_job_goes_on_in_its_folder(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv(count, "0")
    config, plain = composed("experiment=demo")
    with reserved_folder(config, plain) as first:
        assert not resumes(first)
        prepared(first)
    monkeypatch.setenv(count, "1")
    config, plain = composed("experiment=demo")
    with reserved_folder(config, plain) as again:
        assert again.output_dir == first.output_dir
        assert resumes(again)
        check_output_dir(again)


@pytest.mark.parametrize("words", [(), ("overwrite=true",)])
def test_processes_that_torchrun_starts_again_find_their_folder(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its name says when they were started first; other runs of these settings are not taken."""
    folders = []
    for restarts, agent, time in ((0, 7, "1"), (0, 8, "2"), (1, 7, "3"), (1, 9, "4"), (2, 7, "5")):
        monkeypatch.setattr("time.strftime", lambda _, now=time: now)
        monkeypatch.setattr("os.getppid", lambda number=agent: number)
        monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", str(restarts))
        config, plain = composed("experiment=demo", *words)
        with reserved_folder(config, plain) as placed:
            check_output_dir(placed)
            folders.append(prepared(placed).name[0])
    assert folders == ["1", "2", "1", "4", "1"]


def test_a_restarted_job_overwrites_what_was_there_before_it_and_not_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prepared(train("output_dir=run"))
    config = train("output_dir=run", "overwrite=true")
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert not resumes(config), "the job was restarted before it came to this run"
    prepared(config)
    assert resumes(config)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    assert not resumes(config)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert not resumes(config)


def test_a_job_may_say_resume_from_its_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="add output_dir=DIR"):
        train("experiment=demo", "resume=true")
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    folders = []
    for _ in range(2):
        config, plain = composed("experiment=demo", "resume=true")
        with reserved_folder(config, plain) as own:
            folders.append(prepared(own))
    assert folders[0] == folders[1]


def test_lightning_does_not_choose_the_checkpoint_that_is_continued(tmp_path: Path) -> None:
    """Under SLURM it takes hpc_ckpt_*.ckpt where it is given no other."""
    folder = prepared(train("experiment=demo", "output_dir=run"))
    (folder / "hpc_ckpt_1.ckpt").touch()
    words = ("experiment=demo", "output_dir=run", "resume=true")
    with pytest.raises(ConfigError, match=r"hpc_ckpt_1\.ckpt.*ckpt=run/hpc_ckpt_1\.ckpt, or move"):
        prepared(train(*words))
    (tmp_path / "run" / "checkpoints").mkdir()
    (tmp_path / "run" / "checkpoints" / "last.ckpt").touch()
    prepared(train(*words))


def killed_while_it_wrote(folder: Path) -> list[Path]:
    """What is left in a folder where each kind of file was being written."""
    names = (
        ".summary-12-abcdef.json", ".edits-12.parquet", ".metrics-12-abcdef.csv",
        ".model-12-abcdef/config.json", "partial/.00000000-00000003-12-abcdef.parquet",
        "partial/.run-12-abcdef.json", "checkpoints/.last-12-abcdef.ckpt",
        "wandb/.run-id-12-abcdef",
    )  # fmt: skip
    left = [folder / name for name in names]
    for path in left:
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    return left


@pytest.mark.parametrize("restarts", ["0", "1"])
def test_nothing_half_written_stays(
    restarts: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(train("output_dir=run"))
    left = killed_while_it_wrote(folder)
    mine = [folder / name for name in (".notes-12.txt", ".hidden")]
    for path in mine:
        path.touch()
    (folder / "checkpoints" / "last.ckpt").touch()
    (folder / "hpc_ckpt_1.ckpt").touch()
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", restarts)
    prepared(train("output_dir=run", *(["overwrite=true"] if restarts == "0" else [])))
    assert not [path for path in left if path.exists()]
    assert all(path.exists() for path in mine)
    assert (folder / "checkpoints" / "last.ckpt").exists() == (restarts == "1")
    assert (folder / "hpc_ckpt_1.ckpt").exists() == (restarts == "1")


def test_an_overwriting_that_was_killed_is_begun_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the old run is known as ours until nothing is left of it."""
    config = train("output_dir=run", "overwrite=true")
    folder = prepared(config)
    for name in ("log.txt", "metrics.csv", "summary.json", "partial", "hpc_ckpt_1.ckpt"):
        (folder / name).touch()

    def die(path: Path) -> None:
        path.unlink()
        raise KeyboardInterrupt

    while run_files(folder) != ["config.yaml"]:
        with monkeypatch.context() as patched:
            patched.setattr("results.files._remove", die)
            with pytest.raises(KeyboardInterrupt):
                prepared(config)
        check_output_dir(config)


@pytest.fixture
def logger(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.Logger]:
    """A logger as the commands start it."""
    root = logging.getLogger()
    monkeypatch.setattr(root, "level", logging.INFO)
    root.addHandler(recent)
    yield logging.getLogger("tests")
    root.removeHandler(recent)
    recent.records.clear()


def test_what_is_logged_stays_in_the_folder(
    tmp_path: Path, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1"])
    logger.info("loading")
    with output_folder(train("experiment=demo", "output_dir=run")):
        logger.warning("Łódź %d", 7)
    logger.info("of the next job")

    def ends(error: BaseException) -> None:
        with output_folder(train("output_dir=run", "overwrite=true")):
            raise error

    monkeypatch.setenv("SLURM_JOB_ID", "41")
    log = tmp_path / "run" / "log.txt"
    text = [re.sub(r"^\S+ \S+ ", "", line) for line in log.read_text().splitlines()]
    assert text == ["INFO train.py seed=1", "INFO loading", "WARNING Łódź 7"]
    with pytest.raises(DataError):
        ends(DataError("a bad file"))
    assert "ERROR a bad file" in log.read_text()
    assert "INFO of the next job" in log.read_text()
    assert "loading" not in log.read_text()
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(ZeroDivisionError):
        ends(ZeroDivisionError("a bug"))
    with pytest.raises(Stopped):
        ends(Stopped(signal.SIGTERM, "after step 9"))
    assert "Traceback" in log.read_text()
    assert "ERROR stopped by SIGTERM after step 9" in log.read_text()
    assert "ERROR a bad file" in log.read_text(), "a run that goes on appends"


def test_a_full_disk_costs_lines_of_the_log_and_not_the_run(
    tmp_path: Path, logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    with output_folder(train("output_dir=run")) as folder:
        logger.info("before")
        real, full = Path.open, [True]

        def opens(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
            if "a" in mode and full[0]:
                raise OSError(28, "No space left on device")
            return real(path, mode, *args, **kwargs)

        monkeypatch.setattr(Path, "open", opens)
        logger.info("lost")
        full[0] = False
        logger.info("after")
    lines = (folder / "log.txt").read_text().splitlines()
    assert [line.split()[-1] for line in lines[-2:]] == ["before", "after"]


def test_a_folder_that_cannot_be_written_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(ConfigError, match=r"output_dir=run cannot be written \(Read-only file"):
        prepared(train("output_dir=run"))
    config, plain = composed("experiment=demo")
    with pytest.raises(ConfigError, match="cannot be written"), reserved_folder(config, plain):
        pass


def test_the_end_of_a_dead_holder_s_children_is_waited_for(
    tmp_path: Path, holder: subprocess.Popen[str]
) -> None:
    label = tmp_path / "run" / LOCK
    label.write_text(label.read_text().replace(f'"process": {holder.pid}', '"process": 999999999'))
    ends = threading.Timer(1, holder.kill)
    ends.start()
    prepared(train("output_dir=run"))
    ends.join()


def test_a_folder_that_cannot_be_written_is_told_before_anything_loads(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        ConfigError, match=r"output_dir=file/run cannot be written \(/.*/file is no"
    ):
        check_output_dir(train("output_dir=file/run"))
    with pytest.raises(ConfigError, match=r"data\.root=file/world: no world can be drawn there \("):
        train("output_dir=run", "data.root=file/world")
    with disk_in_memory(tmp_path / "read_only") as mount:
        folder = mount("rw")
        prepared(train(f"output_dir={folder}/run"))
        mount("remount,ro")
        with pytest.raises(ConfigError, match="cannot be written"):
            check_output_dir(train(f"output_dir={folder}/other"))
        check_output_dir(train(f"output_dir={folder}/run", "resume=true"))
