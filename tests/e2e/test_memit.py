"""AlphaEdit by its commands: the second moments of two layers, then turns of edits."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_turns_are_written_into_the_null_space_of_a_text(world: Path, tmp_path: Path) -> None:
    text, cache, folder = tmp_path / "text.txt", tmp_path / "moments", tmp_path / "out"
    lines = [f"What does number {i} make? Short answer: word {i * i}" for i in range(200)]
    text.write_text("\n".join(lines))
    moments = ("second_moment", "model=llava_tiny", "--layer", "0,1", "--text", text)
    run("-m", "analysis", *map(str, moments), "--cache", str(cache))
    (first,) = cache.glob("*_layer-0_*")
    options = ("experiment=demo", f"data.root={world}", "logger=none", "editor.contexts=[]")
    alphaedit = (*options, "editor=alphaedit", f"output_dir={folder}")
    printed = run("evaluate.py", *alphaedit, "data.limit=2", status=2)
    assert "editor.null_space=true" in printed
    assert "--layer 0,1" in " ".join(printed.split())
    named = f"editor.second_moments={str(first).replace('layer-0', 'layer-*')}"
    turns = ("protocol=sequential", "protocol.turn=2", "protocol.n=2,4")
    run("evaluate.py", *alphaedit, named, *turns)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["editor"], summary["n_edits"]) == ("alphaedit", 4)
    assert summary["curve"]["2"]["Reliability"]["mean"] > 50
    assert summary["curve"]["2"]["Locality"]["mean"] > 50
