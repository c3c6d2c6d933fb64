"""`evaluate.py protocol=sequential` and `protocol=batch`, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e


def options(world: Path) -> tuple[str, ...]:
    return ("experiment=demo", "editor=ft", f"data.root={world}", "logger=none")


@pytest.fixture(scope="session")
def single(made_once: Callable[..., Path], world: Path) -> dict[str, Any]:
    """The summary of the first edit alone."""

    def evaluate(folder: Path) -> None:
        run("evaluate.py", *options(world), "data.limit=1", f"output_dir={folder}")

    return summary(made_once("ft_alone", evaluate))


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def test_edits_in_sequence_leave_a_curve(
    world: Path, single: dict[str, Any], tmp_path: Path
) -> None:
    folder, points = tmp_path / "sequence", ("protocol=sequential", "protocol.n=1,12")
    run("evaluate.py", *options(world), *points, f"output_dir={folder}")
    found = summary(folder)
    assert found["protocol"] == {
        "name": "sequential", "n": [1, 12], "turn": 1, "contradictions": "last",
    }  # fmt: skip
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


def test_edits_in_one_batch_leave_a_curve(
    world: Path, single: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "batch"
    words = (*options(world), "protocol=batch", "protocol.n=1,9", f"output_dir={folder}")
    run("evaluate.py", *words, "evaluate.batch_size=4")
    found = summary(folder)
    assert found["protocol"] == {"name": "batch", "n": [1, 9], "contradictions": "last"}
    assert (found["n_edits"], list(found["curve"])) == (9, ["1", "9"])
    assert found["curve"]["9"] == found["metrics"]
    assert found["curve"]["1"] == single["metrics"]
    assert "when_made" not in found
    assert found["not_taught"] == {"1": {}, "9": {}}
    assert found["metrics"]["Reliability"]["mean"] > 50
    curve = pd.read_parquet(folder / "curve.parquet")
    asked = curve.groupby("edits_in_place").edit_id.agg(lambda ids: sorted(set(ids)))
    assert asked.to_dict() == {1: [0], 9: list(range(9))}
    assert curve.groupby("edits_in_place").seconds.nunique().to_dict() == {1: 1, 9: 1}
    assert (folder / "curve.png").is_file()
    assert not (folder / "partial").exists()


def test_what_does_not_go_together_is_refused(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    words = (*options(world), f"output_dir={folder}")
    printed = run("evaluate.py", *words, "protocol.n=1,12", status=2)
    assert "add protocol=sequential" in printed
    printed = run("evaluate.py", *words, "protocol=batch", "protocol.n=1,5000", status=2)
    assert "protocol.n=1,5000 makes 5000 edits" in " ".join(printed.split())
    assert "has 200" in printed
    assert not folder.exists()
