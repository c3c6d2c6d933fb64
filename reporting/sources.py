"""What a report is made of: result folders, trainings, and the labels of the command line.

report.py DIR... --label NAME=DIR    a label names the runs of a folder and takes them in
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from errors import ConfigError, DataError
from options import check_text, without_tilde
from reporting.entries import Entry
from reporting.figures import read_curves
from reporting.labels import SCENARIOS
from reporting.naming import entries
from results.files import CURVES, PARTIAL, SUMMARY
from results.folder import RunResult, read_run


@dataclass(frozen=True)
class Sources:
    """What the folders hold.

    Attributes:
        entries: the rows that the evaluations make.
        training: folders of trainings.
        labels: of the training folders that have one.
    """

    entries: tuple[Entry, ...]
    training: tuple[Path, ...] = ()
    labels: Mapping[Path, str] = field(default_factory=dict)


def read_sources(folders: Sequence[Path], labels: Sequence[str] = ()) -> Sources:
    """Sort folders into evaluations (summary.json) and training runs (metrics.csv), or both.

    Args:
        folders: written by evaluate.py or train.py; one that is given twice counts once.
        labels: words NAME=DIR. DIR is such a folder, one that has such folders below it (a sweep),
            or a pattern of either; they need not be among `folders`.

    Returns:
        The rows, of runs that are read and checked, and the training folders.

    Raises:
        ConfigError: a label has no name or names nothing, or two labels name one folder.
        DataError: a folder does not exist, holds neither file, or its summary is not valid; or
            there is nothing but training runs; or a scenario is unknown; or the runs make no rows
            (`reporting.naming.entries`).
    """
    given: dict[Path, str] = {}  # resolved folder -> label
    everything = {folder.resolve(): folder for folder in folders}
    for label in labels:
        name, named = _read_label(label)
        for folder in named:
            resolved = folder.resolve()
            if given.setdefault(resolved, name) != name:
                raise ConfigError(
                    f"--label: {folder} is named both {given[resolved]!r} and {name!r}; a run has "
                    "one label."
                )
            everything.setdefault(resolved, folder)
    runs: list[RunResult] = []
    training: list[Path] = []
    for folder in everything.values():
        _check_name(folder)
        has_curves = (folder / CURVES).is_file()
        if has_curves:
            read_curves(folder / CURVES)  # a broken file is told before anything is written
            training.append(folder)
        if (folder / SUMMARY).is_file() or not has_curves:
            runs.append(read_run(folder))
    _check_runs(runs, list(everything.values()))
    by_folder = {everything[resolved]: name for resolved, name in given.items()}
    return Sources(tuple(entries(runs, by_folder)), tuple(training), by_folder)


def _check_name(folder: Path) -> None:
    """Refuses a folder whose name cannot be written into a report."""
    try:
        check_text(str(folder))
    except ValueError as error:
        raise DataError(f"{str(folder)!r}: {error}.") from error


def _check_runs(runs: Sequence[RunResult], folders: Sequence[Path]) -> None:
    unknown = [f"{run.scenario!r} in {run.folder}" for run in runs if run.scenario not in SCENARIOS]
    if unknown:
        raise DataError(
            f"Unknown scenario {'; '.join(unknown)}: expected is one of {', '.join(SCENARIOS)}; "
            "leave the folder out or evaluate again with evaluate.py into a new one."
        )
    if not runs:
        raise DataError(
            f"None of {', '.join(map(str, folders))} holds a {SUMMARY}; give at least one folder "
            "that evaluate.py wrote."
        )


def _read_label(label: str) -> tuple[str, list[Path]]:
    """The name and the folders of NAME=DIR; both may hold further equals signs.

    Raises:
        ConfigError: there is no name, or DIR names nothing of ours.
    """
    try:
        check_text(label)
    except ValueError as error:
        raise ConfigError(f"--label {label!r}: {error}.") from error
    splits = [index for index, character in enumerate(label) if character == "="]
    for index in splits:
        name, path = label[:index].strip(), without_tilde(label[index + 1 :])
        if name and path and (named := _folders_of(path)):
            return " ".join(name.split()), named
    if not splits or not label[: splits[0]].strip() or not label[splits[0] + 1 :]:
        raise ConfigError(
            f"--label {label}: expected is NAME=DIR, the name of a row and the folder of its runs."
        )
    path = label[splits[0] + 1 :]
    state = "holds no run" if os.path.lexists(without_tilde(path)) else "does not exist"
    raise ConfigError(
        f"--label {label}: {path} {state}. DIR is a folder that evaluate.py or train.py wrote, one "
        "that has such folders below it, or a pattern in quotes such as 'runs/sweep/*'."
    )


def _folders_of(path: str) -> list[Path]:
    """The folders of runs that a path or pattern names; none where it names nothing of ours."""
    folder = Path(path)
    if folder.is_dir():
        return _runs_in(folder)
    anchor = Path(folder.anchor)
    pattern = str(folder.relative_to(anchor))
    matches = sorted(match for match in anchor.glob(pattern) if match.is_dir())
    return [run for match in matches for run in _runs_in(match)]


def _runs_in(folder: Path) -> list[Path]:
    """A folder that holds a run, or else all below it that do; what is not finished counts too.

    `read_run` then refuses it: a mean over the seeds that happened to end is not what was asked.
    """
    for depth in ("", "**/"):
        marks = [folder.glob(f"{depth}{name}") for name in (SUMMARY, CURVES, PARTIAL)]
        folders = sorted({mark.parent for of_name in marks for mark in of_name}, key=_by_number)
        if folders:
            return folders
    return []


def _by_number(folder: Path) -> list[tuple[int, str]]:
    """Sorting key: the jobs 2 and 10 of a sweep in this order."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in folder.parts]
