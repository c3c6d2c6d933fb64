"""Odd places: links, closed folders, files in the place of folders, paths in other forms."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from tests.odd.cases import PICTURES, TEXT, with_words
from tests.odd.harness import OUT, Case, Either, Refused, Runs
from tests.odd.records import FILE


def place_cases() -> list[Case]:
    """Links, closed folders, files in the place of folders, paths of other forms."""
    data, out, keep = "data.root=", "output_dir=", functools.partial(Case, risks_a_run=False)
    text = Runs("text")
    beside = Either(text, Refused(("data",)))
    return [
        Case("data.root ends with /", with_words(TEXT, f"{data}data/"), text),
        Case("data.root begins with ./", with_words(TEXT, f"{data}./data"), text),
        Case("data.root goes up and down", with_words(TEXT, f"{data}data/images/.."), text),
        Case(
            "data.root is a link",
            with_words(TEXT, f"{data}link"),
            text,
            prepare=_link("link", "data"),
        ),
        Case(
            "data.root is a link to itself",
            with_words(TEXT, f"{data}link"),
            Refused(("link",)),
            prepare=_link("link", "link"),
        ),
        Case("data.root is a file", with_words(TEXT, f"{data}data/{FILE}"), Refused((FILE,))),
        Case("data.root is empty text", with_words(TEXT, f"{data}''"), Refused(("data.root",))),
        Case("data.root is a blank", with_words(TEXT, f"{data}' '"), Refused(("data.root",))),
        Case(
            "data.root has 5000 letters",
            with_words(TEXT, data + "x" * 5000),
            Refused(("data.root",)),
        ),
        Case(
            "data.root has 300 letters", with_words(TEXT, data + "x" * 300), Refused(("data.root",))
        ),
        Case("data.root is read-only", TEXT, text, prepare=_closed("data", 0o555)),
        Case("data.root is closed", TEXT, Refused(("data",)), prepare=_closed("data", 0)),
        Case(
            "data.root may not be entered", TEXT, Refused(("data",)), prepare=_closed("data", 0o644)
        ),
        Case("records are closed", TEXT, Refused((FILE,)), prepare=_closed(f"data/{FILE}", 0)),
        Case(
            "pictures are closed", PICTURES, Refused(("images",)), prepare=_closed("data/images", 0)
        ),
        Case("records are a link", TEXT, text, prepare=_behind_link),
        Case("records are a folder", TEXT, Refused(("data",)), prepare=_folder_of_records),
        Case("records are a link to nothing", TEXT, Refused((FILE,)), prepare=_lost_records),
        Case(
            "no records", TEXT, Refused(("data",)), prepare=lambda f: (f / "data" / FILE).unlink()
        ),
        Case("a file of the system beside", TEXT, text, prepare=_file_of_the_system),
        keep("output_dir ends with /", with_words(TEXT, f"{out}{OUT}/"), text),
        keep("output_dir is deep", with_words(TEXT, f"{out}{OUT}/a/b/c"), Runs(), out=OUT),
        keep("output_dir goes up and down", with_words(TEXT, f"{out}data/../{OUT}"), text),
        keep("output_dir is a link", with_words(TEXT, f"{out}link"), text, prepare=_output_link),
        keep(
            "output_dir is a link to nothing",
            with_words(TEXT, f"{out}link"),
            Either(text, Refused(("link",))),
            prepare=_link("link", OUT),
        ),
        keep("output_dir is a file", with_words(TEXT, f"{out}data/{FILE}"), Refused((FILE,))),
        keep(
            "output_dir is in a file", with_words(TEXT, f"{out}data/{FILE}/out"), Refused((FILE,))
        ),
        keep("output_dir is the data's", with_words(TEXT, f"{out}data"), beside, out="data"),
        keep(
            "... with overwrite=true",
            with_words(TEXT, f"{out}data", "overwrite=true"),
            beside,
            out="data",
        ),
        keep("output_dir is where it starts", with_words(TEXT, f"{out}."), text, out="."),
        keep("output_dir is empty text", with_words(TEXT, f"{out}''"), Refused(("output_dir",))),
        keep("output_dir has 300 letters", with_words(TEXT, out + "x" * 300), Refused(("x{100}",))),
        keep(
            "output_dir is a device", with_words(TEXT, f"{out}/dev/null"), Refused(("/dev/null",))
        ),
        keep(
            "output_dir is in /proc", with_words(TEXT, f"{out}/proc/out"), Refused(("/proc/out",))
        ),
        keep(
            "output_dir may not be made",
            with_words(TEXT, f"{out}closed/out"),
            Refused(("closed",)),
            prepare=_closed_folder(0o555),
        ),
        keep(
            "output_dir is read-only",
            with_words(TEXT, f"{out}closed"),
            Refused(("closed",)),
            prepare=_closed_folder(0o555),
        ),
        keep(
            "output_dir is closed",
            with_words(TEXT, f"{out}closed"),
            Refused(("closed",)),
            prepare=_closed_folder(0),
        ),
        keep("it starts in a read-only folder", TEXT, text, prepare=_read_only_start),
        Case(
            "model.path is closed",
            with_words(TEXT, "model.path=./closed"),
            Refused(("closed",)),
            prepare=_closed_folder(0),
        ),
        Case(
            "model.path is a file", with_words(TEXT, f"model.path=./data/{FILE}"), Refused((FILE,))
        ),
        Case("model.path is empty", with_words(TEXT, "model.path=./data"), Refused(("data",))),
        Case(
            "data.image_root is missing",
            with_words(PICTURES, "data.image_root=nowhere"),
            Refused(("nowhere",)),
        ),
        Case(
            "data.image_root is a file",
            with_words(PICTURES, f"data.image_root=data/{FILE}"),
            Refused((FILE,)),
        ),
        Case(
            "data.image_root is a link",
            with_words(PICTURES, "data.image_root=link"),
            Runs("pictures"),
            prepare=_link("link", "data/images"),
        ),
        Case(
            "data.files is missing",
            with_words(TEXT, "data.files=[nowhere.json]"),
            Refused(("nowhere.json",)),
        ),
        Case(
            "data.files is a folder", with_words(TEXT, "data.files=[images]"), Refused(("images",))
        ),
        Case(
            "data.files, the same one twice",
            with_words(TEXT, f"data.files=[{FILE},{FILE}]"),
            Refused((FILE,)),
        ),
        Case(
            "... in another spelling",
            with_words(TEXT, f"data.files=[{FILE},./{FILE}]"),
            Refused((FILE,)),
        ),
        Case(
            "... by a link",
            with_words(TEXT, f"data.files=[{FILE},link.json]"),
            Refused(("link.json",)),
            prepare=lambda folder: (folder / "data" / "link.json").symlink_to(FILE),
        ),
        Case(
            "data.files is empty",
            with_words(TEXT, "data.files=[]"),
            Either(text, Refused(("data.files",))),
        ),
    ]


def _link(name: str, target: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).symlink_to(target)


def _closed(name: str, mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / name).chmod(mode)


def _closed_folder(mode: int) -> Callable[[Path], None]:
    return lambda folder: (folder / "closed").mkdir(mode=mode)


def _behind_link(folder: Path) -> None:
    (folder / "data" / FILE).rename(folder / "elsewhere.txt")
    (folder / "data" / FILE).symlink_to("../elsewhere.txt")


def _folder_of_records(folder: Path) -> None:
    (folder / "data" / FILE).unlink()
    (folder / "data" / FILE).mkdir()


def _lost_records(folder: Path) -> None:
    (folder / "data" / FILE).unlink()
    (folder / "data" / FILE).symlink_to("nothing.json")


def _file_of_the_system(folder: Path) -> None:
    """What a Mac leaves beside a file that it copies to another disk."""
    (folder / "data" / f"._{FILE}").write_bytes(b"\0\x05\x16\x07\0\x02\0\0Mac OS X" + b"\0" * 60)


def _output_link(folder: Path) -> None:
    (folder / OUT).mkdir()
    (folder / "link").symlink_to(OUT)


def _read_only_start(folder: Path) -> None:
    (folder / OUT).mkdir()
    folder.chmod(0o555)
