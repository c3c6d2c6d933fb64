"""pretrain.py around a language model, as typed: built, gone on with, and edited."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.commands import run
from tests.language_worlds import small_world, tiny_language, words

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_model_is_built_gone_on_with_and_edited(tmp_path: Path) -> None:
    world, folder = small_world(tmp_path / "world"), tmp_path / "run"
    tiny_language(tmp_path / "language")
    typed = words(world.root, tmp_path / "language", folder)
    typed[typed.index("logger=none")] = "logger=csv"
    typed.append("trainer.log_every_n_steps=1")
    printed = run("pretrain.py", *typed)
    assert "facts known in text" in printed
    assert f"model {folder}/model" in " ".join(printed.split())
    curves = pd.read_csv(folder / "metrics.csv")
    assert {"adaptation/answers", "naming/loss"} <= set(curves.columns)
    steps = curves.dropna(subset="adaptation/answers").step.tolist()
    assert steps == [0, 1, 2]
    assert curves.dropna(subset="naming/loss").step.min() > 2
    weights = (folder / "model" / "model.safetensors").read_bytes()

    assert "continue that run with resume=true" in run("pretrain.py", *typed, status=2)
    assert "was 0 and is 1" in run("pretrain.py", *typed, "resume=true", "seed=1", status=2)
    for lost in ("stages/naming", "parts", "model"):
        shutil.rmtree(folder / lost)
    assert "adaptation is done" in " ".join(run("pretrain.py", *typed, "resume=true").split())
    pd.testing.assert_frame_equal(pd.read_csv(folder / "metrics.csv"), curves)
    run("pretrain.py", *typed, "resume=true", "pretrain.alignment=all")
    more = pd.read_csv(folder / "metrics.csv")
    assert more.step.tolist() == list(range(len(more)))
    assert len(more.dropna(subset="embedding/loss")) == 3
    pd.testing.assert_frame_equal(more[: len(curves)][curves.columns], curves)
    assert (folder / "model" / "model.safetensors").read_bytes() == weights
    run("pretrain.py", *typed, "overwrite=true")
    assert (folder / "model" / "model.safetensors").read_bytes() == weights

    result = tmp_path / "result"
    run(
        "evaluate.py", "experiment=demo", "editor=ft", "scenario=transitive", "data=folder",
        f"data.root={world.root}", "data.filter_known=none", "data.limit=2", "model=smollm_llava",
        f"model.path={folder}/model", "logger=none", f"output_dir={result}", "editor.layers=1",
    )  # fmt: skip
    summary = json.loads((result / "summary.json").read_text())
    assert (summary["editor"], summary["n_edits"]) == ("ft", 2)


def test_mistakes_are_told_at_once(tmp_path: Path) -> None:
    printed = run(
        "pretrain.py", "model=smollm_llava", f"output_dir={tmp_path / 'run'}", "pretrain.steps=4",
        "recipe.adaptation.rank=0", "pretrain.alignment=both", f"language_model.path={tmp_path}",
        status=2,
    )  # fmt: skip
    for told in ("3 mistakes", "pretrain.steps: this is of the recipe of tiny models",
                 "recipe.adaptation.rank=0", "pretrain.alignment=both"):  # fmt: skip
        assert told in printed
    world = small_world(tmp_path / "world")
    printed = run(
        "pretrain.py", *words(world.root, tmp_path / "nothing", tmp_path / "run"), status=2
    )
    assert "language model" in printed
    assert not (tmp_path / "run").exists()
