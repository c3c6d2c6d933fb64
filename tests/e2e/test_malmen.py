"""MALMEN and RLEdit by their commands: a short training, updates of many edits, a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from editors.checkpoint import editor_options, read_checkpoint
from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
SITES = {"mlp_gate": [1], "mlp_out": [2, 3]}


def trained(world: Path, folder: Path, editor: str, *words: str) -> Path:
    """A checkpoint of a few optimiser steps on updates of 8 edits, and what they have moved."""
    small = (f"editor={editor}", "editor.n_edits=8", "editor.batch_size=4", "data.limit=32")
    often = ("trainer.log_every_n_steps=1", "logger=csv", f"output_dir={folder}")
    sites = "editor.sites={mlp_out:[3,2],mlp_gate:[1]}"
    run("train.py", "experiment=demo", f"data.root={world}", *small, sites, *words, *often)
    stored = read_checkpoint(folder / "checkpoints" / "last.ckpt")
    assert editor_options(stored)["sites"] == SITES
    state = stored["state_dict"]
    assert len(state["editor.edit_lr"]) == 3
    assert (state["editor.log_ridge"] != 0).all()
    (csv,) = folder.rglob("metrics.csv")
    curves = pd.read_csv(csv)
    assert curves["train/loss"].notna().sum() > 0
    for name in ("train/loss", "train/ridge/1_mlp_gate", "val/loss", "val/reliability"):
        assert curves[name].dropna().abs().between(0, 1e4, inclusive="right").all()
    return folder / "checkpoints" / "last.ckpt"


def judged(world: Path, ckpt: Path, folder: Path) -> dict[str, Any]:
    """The summary of updates of 2 and of 4 edits."""
    words = (f"data.root={world}", f"ckpt={ckpt}", "logger=none", f"output_dir={folder}")
    run("evaluate.py", "experiment=demo", *words, "protocol=batch", "protocol.n=[2,4]")
    summary: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    assert summary["settings"]["editor"]["sites"] == SITES
    assert (summary["n_edits"], list(summary["curve"])) == (4, ["2", "4"])
    assert summary["curve"]["4"] == summary["metrics"]
    edits = pd.read_parquet(folder / "curve.parquet").groupby("edits_in_place").edit_id.unique()
    assert {n: sorted(ids) for n, ids in edits.items()} == {2: [0, 1], 4: [0, 1, 2, 3]}
    return summary


def test_a_training_of_malmen_is_judged_on_many_edits_and_reported(
    world: Path, tmp_path: Path
) -> None:
    steps = ("trainer.max_steps=3", "trainer.val_every=3")
    ckpt = trained(world, tmp_path / "run", "malmen", *steps)
    summary = judged(world, ckpt, tmp_path / "out")
    assert summary["editor"] == "malmen"
    for of_point in summary["curve"].values():
        assert of_point["Reliability"]["mean"] > 50
        assert of_point["Locality"]["mean"] > 25
    run("report.py", tmp_path / "out", "--output", tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "tables" / "unimodal_batch.csv")
    table = table[(table.editor == "MALMEN") & (table.line == "measured")]
    shown = table.set_index(["edits_in_place", "column"]).value.to_dict()
    for n, column in ((2, "Reliability"), (4, "Reliability"), (4, "Stability")):
        expected = summary["curve"][str(n)][column]["mean"]
        assert shown[n, column] == pytest.approx(expected, abs=0.051)


def test_a_training_of_rledit_is_judged_on_many_edits(world: Path, tmp_path: Path) -> None:
    """A step is a trajectory of two updates."""
    steps = ("trainer.max_steps=1", "editor.turns=2", "trainer.val_every=1")
    summary = judged(world, trained(world, tmp_path / "run", "rledit", *steps), tmp_path / "out")
    assert summary["editor"] == "rledit"
    assert summary["metrics"]["Reliability"]["mean"] > 0
    assert summary["metrics"]["Locality"]["mean"] > 50
