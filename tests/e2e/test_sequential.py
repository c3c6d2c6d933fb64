"""`evaluate.py protocol=sequential`, as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def test_edits_in_sequence_leave_a_curve(world: Path, tmp_path: Path) -> None:
    options = ("experiment=demo", "editor=ft", f"data.root={world}", "logger=none")
    folder, alone = tmp_path / "sequence", tmp_path / "alone"
    run("evaluate.py", *options, "protocol=sequential", "protocol.n=1,12", f"output_dir={folder}")
    run("evaluate.py", *options, "data.limit=1", f"output_dir={alone}")
    found, single = (json.loads((one / "summary.json").read_text()) for one in (folder, alone))
    assert found["protocol"] == {"name": "sequential", "n": [1, 12]}
    assert single["protocol"] == {"name": "single"}
    assert (found["n_edits"], list(found["curve"])) == (12, ["1", "12"])
    assert found["curve"]["12"] == found["metrics"]
    assert found["curve"]["1"] == single["metrics"]
    assert found["when_made"]["12"]["Reliability"]["mean"] == 100
    assert found["metrics"]["Locality"]["mean"] < single["metrics"]["Locality"]["mean"]

    curve = pd.read_parquet(folder / "curve.parquet")
    edits = pd.read_parquet(folder / "edits.parquet")
    assert list(curve.columns) == [*edits.columns, "edits_in_place"]
    asked = curve.groupby("edits_in_place").edit_id.agg(lambda ids: sorted(set(ids)))
    assert asked.to_dict() == {1: [0], 12: list(range(12))}
    key = ["edit_id", "probe", "metric", "value", "post_text"]
    last = curve[curve.edits_in_place == 12][key]
    assert sorted(map(tuple, last.to_numpy())) == sorted(map(tuple, edits[key].to_numpy()))
    assert not (folder / "partial").exists()


def test_what_does_not_go_together_is_refused(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    options = ("experiment=demo", "editor=ft", f"data.root={world}", f"output_dir={folder}")
    printed = run("evaluate.py", *options, "protocol.n=1,12", status=2)
    assert "add protocol=sequential" in printed
    printed = run(
        "evaluate.py", *options, "protocol=sequential", "protocol.n=1,5000", status=2
    )  # fmt: skip
    assert "protocol.n=1,5000 makes 5000 edits" in " ".join(printed.split())
    assert "has 200" in printed
    assert not folder.exists()
