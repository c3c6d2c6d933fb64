"""pretrain.py: a small model is taught a world, and an editor works on it."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from datamodules.world import generate_world
from tests.e2e.commands import run
from tests.recipes import SMALL, folder_words

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_model_is_taught_and_edited(tmp_path: Path) -> None:
    world = generate_world(tmp_path / "world", size=5, cities=4, seen_views=3, unseen_views=1)
    folder, result = tmp_path / "taught", tmp_path / "result"
    recipe = {**SMALL, "steps": 10}  # curves are logged every ten steps
    words = [*folder_words(world), *(f"pretrain.{key}={value}" for key, value in recipe.items())]
    words += ["logger=csv", f"output_dir={folder}"]
    printed = run("pretrain.py", *words)
    assert f"model {folder}/model" in " ".join(printed.split())
    manifest = json.loads((folder / "model" / "manifest.json").read_text())
    assert {key: manifest["settings"][key] for key in recipe} == recipe
    assert pd.read_csv(folder / "metrics.csv").step.max() == recipe["steps"] - 1
    assert (folder / "config.yaml").is_file()
    assert "already holds a run" in run("pretrain.py", *words, status=2)
    run(
        "evaluate.py", "experiment=demo", "editor=ft", "scenario=transitive", "data=folder",
        f"data.root={world}", "data.filter_known=none", "data.limit=2",
        f"model.path={folder}/model", "logger=none", f"output_dir={result}",
    )  # fmt: skip
    summary = json.loads((result / "summary.json").read_text())
    assert (summary["editor"], summary["n_edits"]) == ("ft", 2)


@pytest.mark.parametrize("alignment", ["naming", "naming_and_facts"])
def test_a_model_is_aligned_by_naming(tmp_path: Path, alignment: str) -> None:
    world = generate_world(tmp_path / "world", size=5, cities=4, seen_views=3, unseen_views=1)
    stage = {"naming_steps": 4, "naming_rows": 6, "picture_fact_rows": 4}
    recipe = {**SMALL, **stage, "alignment": alignment}
    words = [*folder_words(world), *(f"pretrain.{key}={value}" for key, value in recipe.items())]
    run("pretrain.py", *words, "logger=csv", f"output_dir={tmp_path}/taught")
    manifest = json.loads((tmp_path / "taught" / "model" / "manifest.json").read_text())
    assert {key: manifest["settings"][key] for key in recipe} == recipe
    assert {"name_seen", "name_unseen"} <= manifest["reading"]["test"].keys()
    missed = [words.split()[0] for words in manifest["targets_missed"]]
    assert missed == ["text", "identity_seen", "identity_unseen"]
    curves = pd.read_csv(tmp_path / "taught" / "metrics.csv")
    steps = recipe["context_warmup"] + recipe["steps"] + stage["naming_steps"]
    assert curves.step.max() < steps
    assert ("train/facts" in curves) == (alignment == "naming_and_facts")
