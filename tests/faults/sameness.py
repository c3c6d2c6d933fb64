"""Whether a run that was killed came to what the unbroken run came to, and left nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import torch

# What `results.files.replacing`, Lightning and tempfile call a file that is not finished.
_UNFINISHED = re.compile(r"^\..*-\d+(\.\w+)?$|hpc_ckpt|^tmp|\.tmp$|\.part$")
_LOCK = ".lock"  # may outlive a kill; it is held by no one then
_COSTS = {"seconds_per_edit", "answer_seconds_per_edit", "peak_memory_bytes"}


def evaluation_differences(folder: Path, unbroken: Path) -> list[str]:
    """What differs between two finished evaluations, a line each."""
    wrong = _files(folder, unbroken)
    for name in ("edits.parquet", "probes.parquet", "curve.parquet"):
        if (unbroken / name).exists():
            wrong += _frames(name, _table(folder / name), _table(unbroken / name))
    try:
        found, expected = (
            json.loads((one / "summary.json").read_text()) for one in (folder, unbroken)
        )
    except OSError as error:
        return [*wrong, str(error)]
    for key in expected.keys() - _COSTS - {"config", "git"}:
        if found.get(key) != expected[key]:
            wrong.append(
                f"summary.json: {key} is {found.get(key)!r:.200}, not {expected[key]!r:.200}"
            )
    return wrong


def training_differences(folder: Path, unbroken: Path) -> list[str]:
    """What differs between two finished trainings, a line each."""
    wrong = _files(folder, unbroken)
    if (unbroken / "metrics.csv").exists():
        frames = (pd.read_csv(one / "metrics.csv") for one in (folder, unbroken))
        wrong += _frames("metrics.csv", *frames)
    for name in ("best", "last"):
        paths = [one / "checkpoints" / f"{name}.ckpt" for one in (folder, unbroken)]
        if missing := [str(path) for path in paths if not path.exists()]:
            wrong.append(f"{missing} is not there")
            continue
        found, expected = (torch.load(path, weights_only=True) for path in paths)
        for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step"):
            if not _equal(found[key], expected[key]):
                wrong.append(f"{name}.ckpt: {key} differs")
        if name == "last" and found["global_step"] != expected["global_step"]:
            wrong.append(f"last.ckpt is of step {found['global_step']}")
    return wrong


def unfinished(folder: Path) -> list[str]:
    """Files of a folder, below it too, that somebody was about to write; W&B's own are its own."""
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if "wandb" not in path.relative_to(folder).parts and _UNFINISHED.search(path.name)
    ]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Time and content of every file of a folder."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def _files(folder: Path, unbroken: Path) -> list[str]:
    names = [
        {str(path.relative_to(one)) for path in one.rglob("*") if "wandb" not in path.parts}
        for one in (folder, unbroken)
    ]
    return [
        *(f"{name} is there besides" for name in sorted(names[0] - names[1] - {_LOCK})),
        *(f"{name} is missing" for name in sorted(names[1] - names[0])),
    ]


def _table(path: Path) -> pd.DataFrame:
    if not path.exists():
        return pd.DataFrame()
    return pd.read_parquet(path).drop(columns="seconds", errors="ignore")


def _frames(name: str, found: pd.DataFrame, expected: pd.DataFrame) -> list[str]:
    try:
        pd.testing.assert_frame_equal(found, expected, check_exact=True)
    except AssertionError as error:
        return [f"{name}: {' '.join(str(error).split())[:300]}"]
    return []


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
