"""Runs one odd case through a real command, in a folder of its own, and says what is wrong.

Each case gets a folder: `data/` with sound records and drawings, `world/`, `out/` with a finished
run where there is something to lose. Whatever the case is, no traceback is printed, no file changes
but those of the output folder, and what is refused is refused in one message with status 2 while
the run that was there stays as it was.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd

from tests.e2e.commands import ROOT, Warm
from tests.odd.records import write_data

OUT, HOME = "out", "home"
LIMIT = 120.0  # seconds that a case may take; then all its processes are killed
TINY = str(ROOT / "models" / "pretrained" / "llava_tiny")
_BOUND = str(Path(__file__).with_name("bound.py"))


@dataclass(frozen=True)
class Refused:
    """The command ends with one message, and nothing has changed.

    Attributes:
        says: patterns that the message has to match, whatever their case.
    """

    says: tuple[str, ...] = ()
    status: int = 2


@dataclass(frozen=True)
class Runs:
    """The command does what it is for.

    Attributes:
        as_clean: name of the clean run whose `edits.parquet` it equals; None: it is not compared.
        n: edits, where they are not those of a clean run.
    """

    as_clean: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class Either:
    """It runs as one that is sound, or is refused: both are honest."""

    runs: Runs
    refused: Refused


Expected = Refused | Runs | Either


@dataclass(frozen=True)
class Case:
    """One command on odd input.

    Attributes:
        name: what is odd.
        words: the command line without its script.
        expected: what has to become of it.
        script: the entry point, or "-m" where the first word is a module.
        prepare: makes the input odd, in the folder of the case.
        out: the output folder in the folder of the case; None: the command has none.
        risks_a_run: whether a finished run lies in the output folder, which `overwrite=true` gives
            away, so that a refusal that comes too late costs something.
        runs: names under which a finished run lies in the folder of the case.
        change_runs: makes them odd.
    """

    name: str
    words: tuple[str, ...]
    expected: Expected
    script: str = "evaluate.py"
    prepare: Callable[[Path], object] = lambda folder: None
    out: str | None = OUT
    risks_a_run: bool = True
    runs: tuple[str, ...] = ()
    change_runs: Callable[[Path], object] = lambda folder: None

    def __str__(self) -> str:
        return self.name


def faults(case: Case, folder: Path, clean: Mapping[str, Path]) -> list[str]:
    """Runs a case in an empty folder; a sentence for each thing that is wrong.

    Args:
        case: the case.
        folder: an empty folder.
        clean: output folders of clean runs by name; "finished" is the one that is at risk.
    """
    write_data(folder / "data")
    (folder / HOME).mkdir()
    case.prepare(folder)
    words = list(case.words)
    if at_risk := _risks_a_run(case):
        shutil.copytree(clean["finished"], folder / case.out)
        words.append("overwrite=true")
    for name in case.runs:
        shutil.copytree(clean["finished"], folder / name)
    case.change_runs(folder)
    before = snapshot(folder)
    status, printed = run_bound(case.script, words, folder)
    found = [
        *_wrong_end(case.expected, status, printed),
        *_changes(before, snapshot(folder), None if status else case.out, is_lost=at_risk),
    ]
    if status == 0 and not found:
        runs = case.expected.runs if isinstance(case.expected, Either) else case.expected
        found += _wrong_result(runs, folder / (case.out or ""), clean)
    return [*found, f"It printed:\n{printed}"] if found else []


def _risks_a_run(case: Case) -> bool:
    is_typed = any("overwrite" in word or "resume" in word for word in case.words)
    may_be_refused = not isinstance(case.expected, Runs)
    return case.risks_a_run and case.out is not None and may_be_refused and not is_typed


def run_bound(script: str, words: Sequence[str], folder: Path) -> tuple[int, str]:
    """Runs a command in a folder, bound by permissions; its status and what it printed."""
    (folder / HOME).mkdir(exist_ok=True)
    variables = {"HOME": str(folder / HOME)}
    with TemporaryDirectory() as streams:
        paths = [f"{streams}/{name}" for name in ("out", "err")]
        process = Warm([_BOUND, str(folder), script, *words], paths, variables)
        begun = time.monotonic()
        while not process.ended():
            if time.monotonic() - begun > LIMIT:
                process.kill()
                break
            time.sleep(0.02)
        status = process.wait()
        return status, "".join(Path(path).read_text(errors="replace") for path in paths)


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Every file, folder and link below a folder: kind, mode, size, time of change, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in folder.rglob("*"):
        about = path.lstat()
        content: object = None
        if stat.S_ISLNK(about.st_mode):
            content = os.readlink(path)
        elif stat.S_ISREG(about.st_mode):
            content = (about.st_size, about.st_mtime_ns, _digest(path))
        found[str(path.relative_to(folder))] = (stat.filemode(about.st_mode), content)
    return found


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except PermissionError:
        return "closed"


def _wrong_end(expected: Expected, status: int, printed: str) -> list[str]:
    """What is wrong with how a command ended and with what it said."""
    found = ["it printed a traceback"] if "Traceback" in printed else []
    if warned := re.search(r"^.*\w+Warning\b.*$", printed, flags=re.MULTILINE):
        found.append(f"a library's warning: {warned[0]}")
    refusal = expected.refused if isinstance(expected, Either) else expected
    if status == 0:
        return [*found, "it ran"] if isinstance(expected, Refused) else found
    if isinstance(refusal, Runs):
        return [*found, f"it ended with status {status}"]
    if status != refusal.status:
        found.append(f"it ended with status {status}, not {refusal.status}")
    if (count := len(re.findall(r"^(?:[\w. -]+: )?error: ", printed, flags=re.MULTILINE))) != 1:
        found.append(f"it said error: {count} times")
    flat = " ".join(printed.split())
    missing = [p for p in refusal.says if not re.search(p, flat, flags=re.IGNORECASE)]
    return found + [f"it did not say {pattern!r}" for pattern in missing]


def _changes(
    before: Mapping[str, object], after: Mapping[str, object], out: str | None, *, is_lost: bool
) -> list[str]:
    """What changed outside the output folder, or anywhere where that is None.

    Inside it files are new; only those of a run that `overwrite=true` gave away may be others.
    """
    found, place = [], Path(*Path(out or ".").parts[:1])
    for name in sorted({*before, *after}):
        what = "new" if name not in before else "gone" if name not in after else "changed"
        is_inside = out is not None and Path(name).is_relative_to(place)
        if before.get(name) != after.get(name) and not (is_inside and (is_lost or what == "new")):
            found.append(f"{what}: {name}")
    return found


def _wrong_result(expected: Expected, folder: Path, clean: Mapping[str, Path]) -> list[str]:
    """What a run found that a sound one does not."""
    assert isinstance(expected, Runs)
    if expected.n is not None:
        found = pd.read_parquet(folder / "edits.parquet")
        if (n := found.edit_id.nunique()) != expected.n:
            return [f"it made {n} edits, not {expected.n}"]
    if expected.as_clean is None:
        return []
    right, found = (
        pd.read_parquet(path / "edits.parquet").drop(columns="seconds")
        for path in (clean[expected.as_clean], folder)
    )
    if right.equals(found):
        return []
    if len(right) != len(found):
        return [f"{len(found)} rows instead of {len(right)}"]
    differs = (right != found) & ~(right.isna() & found.isna())
    return [f"other results than the clean run's:\n{found[differs.any(axis=1)].head()}"]
