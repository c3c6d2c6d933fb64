"""UltraEdit by its commands: statistics in a file, and an evaluation that goes by them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_edits_are_normalised_by_a_file_of_statistics(world: Path, tmp_path: Path) -> None:
    options = ("experiment=demo", "editor=ultraedit", f"data.root={world}", "logger=none")
    file, folder = tmp_path / "of" / "world.safetensors", tmp_path / "out"
    command = ("-m", "analysis", "statistics", *options, "editor.warm_up=20", "--output", file)
    assert f"{file}: 20 edits, " in run(*map(str, command))
    assert "is there already" in run(*map(str, command), status=2)
    with safe_open(file, framework="pt") as stored:
        facts = stored.metadata()
    assert (facts["edits"], facts["scenario"]) == ("20", "unimodal")
    given = (f"editor.statistics={file}", "data.limit=6")
    run("evaluate.py", *options, *given, f"output_dir={folder}")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["metrics"]["Reliability"]["mean"] > 50
    assert summary["metrics"]["Locality"]["mean"] > 50
