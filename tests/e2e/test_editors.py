"""Every editor by its command, and what the documentation says it reaches on the default world."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

from tests.e2e.commands import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


@pytest.fixture(scope="module")
def whole_serac(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training with the demo's settings."""
    return trained_serac(world, tmp_path_factory.mktemp("whole_serac") / "run")


@pytest.fixture(scope="module")
def serac(
    world: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    """A training of four steps; the whole one where that is made in any case."""
    names = {item.name for item in request.session.items}
    if test_serac_reaches_its_targets.__name__ in names:
        whole: Path = request.getfixturevalue("whole_serac")
        return whole
    short = ("data.limit=16", "trainer.max_steps=4", "trainer.val_every=2")
    return trained_serac(world, tmp_path_factory.mktemp("serac") / "run", *short)


def trained_serac(world: Path, folder: Path, *options: str) -> Path:
    run(
        "train.py", "editor=serac", "model=llava_tiny", "experiment=demo", f"data.root={world}",
        "logger=csv", f"output_dir={folder}", *options,
    )  # fmt: skip
    return folder


def evaluated(world: Path, folder: Path, *options: str) -> dict[str, Any]:
    run(
        "evaluate.py", "experiment=demo", f"data.root={world}", "logger=none",
        f"output_dir={folder}", *options,
    )  # fmt: skip
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found | {"means": {name: value["mean"] for name, value in found["metrics"].items()}}


@pytest.mark.quality
def test_serac_reaches_its_targets(whole_serac: Path, world: Path, tmp_path: Path) -> None:
    folder = whole_serac
    assert pd.read_csv(folder / "metrics.csv")["train/scope/loss"].dropna().iloc[-1] < 0.1
    ckpt = f"ckpt={folder}/checkpoints/best.ckpt"
    found = evaluated(world, tmp_path / "text", ckpt, "data.limit=80")
    assert found["n_edits"] == 80
    assert found["means"]["Reliability"] >= 95
    assert found["means"]["Generality"] >= 90
    assert found["means"]["Locality"] >= 98
    assert found["editor_report"]["scope_precision"] >= 0.95
    assert found["editor_report"]["scope_recall"] >= 0.95
    assert found["answer_seconds_per_edit"] > found["seconds_per_edit"]
    pictures = evaluated(world, tmp_path / "image", ckpt, "scenario=multimodal", "data.limit=6")
    assert pictures["means"]["Reliability_S"] > 50


@pytest.mark.quality
def test_rome_reaches_its_targets(world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", "editor=rome", "data.limit=32")
    assert found["editor"] == "rome"
    assert found["means"]["Reliability"] >= 95
    assert found["means"]["Locality"] >= 95
    assert found["means"]["Locality_subject"] < found["means"]["Locality"]


@pytest.mark.quality
def test_grace_reaches_its_targets(world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", "editor=grace", "data.limit=64")
    assert found["means"]["Reliability"] >= 98
    assert found["means"]["Generality"] >= 95
    assert found["means"]["Locality"] >= 98
    assert found["editor_report"]["scope_precision"] >= 0.95
    assert found["editor_report"]["scope_recall"] >= 0.95
    pictures = evaluated(
        world, tmp_path / "pictures", "editor=grace", "scenario=transitive", "data.limit=32"
    )
    assert pictures["means"]["Reliability_S"] >= 80


@pytest.mark.quality
def test_ike_reaches_its_target(world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", "editor=ike", "data.limit=64")
    assert found["means"]["Reliability"] >= 90
    report = found["editor_report"]
    assert (report["demonstrations_shown"], report["demonstrations_dropped"]) == (4, 0)


def test_serac_s_training_shows_its_scope_and_holds_no_base_model(serac: Path) -> None:
    curves = pd.read_csv(serac / "metrics.csv")
    for name in ("precision", "recall", "margin"):
        assert curves[f"val/scope/{name}"].count() > 1, name
    stored = torch.load(serac / "checkpoints" / "best.ckpt", weights_only=True)
    assert all(key.startswith("editor.") for key in stored["state_dict"])
    assert not any("embed_tokens" in key for key in stored["state_dict"])


def test_a_checkpoint_takes_another_decision_but_no_other_network(
    serac: Path, world: Path, tmp_path: Path
) -> None:
    ckpt = f"ckpt={serac}/checkpoints/best.ckpt"
    options = ("editor.scope.threshold=0.9", "editor.combine=hard", "data.limit=8")
    assert evaluated(world, tmp_path / "hard", ckpt, *options)["n_edits"] == 8
    printed = run(
        "evaluate.py", "experiment=demo", f"data.root={world}", ckpt, "editor.scope.pooling=cls",
        f"output_dir={tmp_path / 'cls'}", status=2,
    )  # fmt: skip
    assert "scope.pooling is mean there and cls here" in " ".join(printed.split())
    assert not (tmp_path / "cls").exists()


def test_pictures_are_served_to_every_other_editor(
    serac: Path, world: Path, tmp_path: Path
) -> None:
    options = ("scenario=multimodal", "data.limit=6")
    run(
        "evaluate.py", "-m", "experiment=demo", "editor=ike,lora,grace", f"data.root={world}",
        "logger=none", f"output_dir={tmp_path}", *options,
    )  # fmt: skip
    for number, editor in enumerate(("ike", "lora", "grace")):
        summary = json.loads((tmp_path / str(number) / "summary.json").read_text())
        assert (summary["editor"], summary["n_edits"]) == (editor, 6)
        assert summary["metrics"]["Reliability_S"]["mean"] > 50
    judged = evaluated(
        world, tmp_path / "serac", f"ckpt={serac}/checkpoints/best.ckpt", *options
    )  # fmt: skip
    assert (judged["editor"], judged["n_edits"]) == ("serac", 6)
    rome = ("editor=rome", "scenario=transitive", "data.limit=4")
    assert evaluated(world, tmp_path / "rome", *rome)["means"]["Reliability_S"] > 50
