"""A file is written whole, on the disk and in one moment, or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from errors import ConfigError, TmkeError
from results.files import (
    UnwritableError,
    check_output,
    replacing,
    replacing_folder,
    why_unwritable,
    write_text,
)
from tests.disks import disk_in_memory


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is brought to the disk and what is renamed, in its order."""
    made: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(descriptor: int) -> None:
        made.append(f"fsync {Path(os.readlink(f'/proc/self/fd/{descriptor}')).name}")
        real_fsync(descriptor)

    def renamed(real: object) -> object:
        def rename(source: Path, target: Path) -> None:
            made.append(f"rename {Path(source).name} {Path(target).name}")
            real_rename(source, target)

        return rename

    monkeypatch.setattr("os.fsync", fsync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(f"os.{name}", renamed(getattr(os, name)))
    return made


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc here")
def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, calls: list[str]) -> None:
    folder = tmp_path / "run"
    write_text(folder / "summary.json", "{}")
    on_disk, renamed, name = calls
    temporary = on_disk.removeprefix("fsync ")
    assert temporary.startswith(".summary-")
    assert temporary.endswith(".json")
    assert (renamed, name) == (f"rename {temporary} summary.json", "fsync run")
    calls.clear()
    names = [f"weights-{number}" for number in range(40)]
    with replacing_folder(tmp_path / "model") as temporary_folder:
        (temporary_folder / "part").mkdir()
        for name in names:
            (temporary_folder / "part" / name).write_bytes(b"1")
    assert sorted(calls[:40]) == sorted(f"fsync {name}" for name in names)
    assert calls[40:] == [
        f"fsync {temporary_folder.name}", "fsync part", f"rename {temporary_folder.name} model",
        f"fsync {tmp_path.name}",
    ]  # fmt: skip


def test_a_folder_of_which_a_file_does_not_reach_the_disk_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 23:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", fsync)

    def write() -> None:
        with replacing_folder(tmp_path / "model") as folder:
            for number in range(40):
                (folder / str(number)).write_bytes(b"1" * number)

    with pytest.raises(UnwritableError, match="Input/output error"):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="no second file system here")
def test_the_temporary_folder_of_the_machine_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was made there would have to be copied into its place."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, "/dev/shm")
    monkeypatch.setattr("tempfile.tempdir", None)
    with replacing(tmp_path / "a.txt") as temporary:
        assert temporary.parent == tmp_path
        temporary.write_text("x")
    with replacing_folder(tmp_path / "b") as temporary:
        assert temporary.parent == tmp_path


def test_what_was_there_stays_where_a_new_one_cannot_be_written(tmp_path: Path) -> None:
    for name in ("file", "folder/file"):
        write_text(tmp_path / name, "old")

    def fill(file: Path) -> None:
        file.write_text("ne")
        raise OSError(28, "No space left on device")

    with (
        pytest.raises(UnwritableError, match=r"file cannot be written \(No space.*unchanged") as e,
        replacing(tmp_path / "file") as temporary,
    ):
        fill(temporary)
    assert isinstance(e.value, TmkeError)
    assert isinstance(e.value, OSError)
    assert (e.value.errno, e.value.strerror) == (28, "No space left on device")
    with (
        pytest.raises(UnwritableError, match="folder cannot be written"),
        replacing_folder(tmp_path / "folder") as temporary,
    ):
        fill(temporary / "file")
    files = {str(p.relative_to(tmp_path)): p.read_text() for p in tmp_path.rglob("*file")}
    assert files == {"file": "old", "folder/file": "old"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_a_folder_gives_way_as_a_whole_or_stays(tmp_path: Path) -> None:
    write_text(tmp_path / "folder" / "old", "")
    with (
        pytest.raises(UnwritableError, match="not empty"),
        replacing_folder(tmp_path / "folder", overwrite=False) as temporary,
    ):
        (temporary / "new").touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["old"]
    with replacing_folder(tmp_path / "folder") as temporary:
        (temporary / "new").touch()
    assert [p.name for p in (tmp_path / "folder").iterdir()] == ["new"]
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_place_that_cannot_be_written_is_known_before_anything_is(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    assert why_unwritable(tmp_path / "a/b c/é=1") == ""
    assert why_unwritable(tmp_path / "file/a") == f"{tmp_path}/file is no folder"
    assert why_unwritable(tmp_path / "link") == f"{tmp_path}/link is no folder"
    assert why_unwritable(tmp_path / "a" / ("x" * 300)) == "File name too long"
    with disk_in_memory(tmp_path / "read_only") as mount:
        folder = mount("ro") / "a"
        assert why_unwritable(folder) == "Read-only file system"
        with pytest.raises(ConfigError, match=r"--output .*read_only/a cannot be written \(Read-"):
            check_output(folder, "report.md", overwrite=False)


def test_a_system_without_file_system_flags_is_asked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Windows is, where a folder would otherwise stop every command."""
    for name in ("statvfs", "pathconf"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert why_unwritable(tmp_path / "a" / ("x" * 300)) == "File name too long"
    assert why_unwritable(tmp_path) == "Permission denied"
