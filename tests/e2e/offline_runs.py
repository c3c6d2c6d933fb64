"""Reads an offline W&B run back, with W&B's own reader (`wandb leet inspect`)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class OfflineRun:
    """What an offline run holds.

    Attributes:
        folder: of the run.
        facts: id, group, job type and the like.
        history: logged lines in their order, nested keys joined with dots.
        summary: the last value of each key.
        artifacts: by name: path in the artifact -> file on this disk.
        metrics: what is drawn over what: name or pattern -> x-axis.
        status: exit code of the run.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, dict[str, Path]] = field(default_factory=dict)
    metrics: dict[str, str] = field(default_factory=dict)
    status: int | None = None

    def curve(self, name: str) -> list[tuple[int, float]]:
        """(optimiser step, value) of every line that has a value."""
        return [(one["trainer/global_step"], one[name]) for one in self.history if name in one]

    def table(self, name: str) -> list[dict[str, Any]]:
        """Lines of a table; a picture is the file that it shows."""
        (files,) = [f for a, f in self.artifacts.items() if a.endswith(f"-{name}")]
        content = json.loads(files[f"{name}.table.json"].read_text())
        return [
            {key: _cell(value, files) for key, value in zip(content["columns"], line, strict=True)}
            for line in content["data"]
        ]

    def pictures(self, name: str) -> list[Path]:
        """The picture files that were logged under a name."""
        names = [one[f"{name}.filenames"] for one in self.history if f"{name}.filenames" in one]
        return [self.folder / "files" / file for files in names for file in files]


def read_runs(output_dir: Path) -> list[OfflineRun]:
    """The offline runs below an output folder, the first one first."""
    return [read_run(folder) for folder in sorted((output_dir / "wandb").glob("offline-run-*"))]


def read_run(folder: Path) -> OfflineRun:
    """One `offline-run-*` folder."""
    (log,) = folder.glob("run-*.wandb")
    shown = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(log)],
        capture_output=True,
        text=True,
        check=True,
    )
    run = OfflineRun(folder)
    for line in shown.stdout.splitlines():
        record = json.loads(line)
        _add(run, record["type"], record[record["type"]])
    return run


def _add(run: OfflineRun, kind: str, record: dict[str, Any]) -> None:
    if kind == "run":
        run.facts = record
    elif kind == "history":
        run.history.append(record["item"])
    elif kind == "summary":
        run.summary |= record.get("update", {})
    elif kind == "metric" and "step_metric" in record:
        run.metrics[record.get("glob_name") or record["name"]] = record["step_metric"]
    elif kind == "artifact":
        run.artifacts[record["name"]] = {
            one["path"]: Path(one["local_path"]) for one in record["manifest"]["contents"]
        }
    elif kind == "exit":
        run.status = record.get("exit_code", 0)


def _cell(value: Any, files: dict[str, Path]) -> Any:
    is_picture = isinstance(value, dict) and value.get("_type") == "image-file"
    return files[value["path"]] if is_picture else value
