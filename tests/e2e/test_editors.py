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
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("worlds") / "default"


@pytest.fixture(scope="module")
def serac(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole training with the demo's settings."""
    folder = tmp_path_factory.mktemp("serac") / "run"
    run(
        "train.py", "editor=serac", "model=llava_tiny", "experiment=demo", f"data.root={world}",
        "logger=csv", f"output_dir={folder}",
    )  # fmt: skip
    return folder


def evaluated(world: Path, folder: Path, *options: str) -> dict[str, Any]:
    run(
        "evaluate.py", "experiment=demo", f"data.root={world}", "logger=none",
        f"output_dir={folder}", *options,
    )  # fmt: skip
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found | {"means": {name: value["mean"] for name, value in found["metrics"].items()}}


def test_serac_reaches_its_targets(serac: Path, world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", f"ckpt={serac}/checkpoints/best.ckpt")
    assert found["n_edits"] == 200
    assert found["means"]["Reliability"] >= 95
    assert found["means"]["Generality"] >= 90
    assert found["means"]["Locality"] >= 98
    assert found["editor_report"]["scope_precision"] >= 0.95
    assert found["editor_report"]["scope_recall"] >= 0.95
    assert found["answer_seconds_per_edit"] > found["seconds_per_edit"]


def test_serac_s_training_shows_its_scope_and_holds_no_base_model(serac: Path) -> None:
    curves = pd.read_csv(serac / "metrics.csv")
    for name in ("precision", "recall", "margin"):
        assert curves[f"val/scope/{name}"].count() > 1, name
    assert curves["train/scope/loss"].dropna().iloc[-1] < 0.1
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


def test_rome_reaches_its_targets(world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", "editor=rome", "data.limit=48")
    assert found["editor"] == "rome"
    assert found["means"]["Reliability"] >= 95
    assert found["means"]["Locality"] >= 95
    assert found["means"]["Locality_subject"] < found["means"]["Locality"]


def test_ike_reaches_its_target(world: Path, tmp_path: Path) -> None:
    found = evaluated(world, tmp_path / "out", "editor=ike", "data.limit=100")
    assert found["means"]["Reliability"] >= 90
    report = found["editor_report"]
    assert (report["demonstrations_shown"], report["demonstrations_dropped"]) == (4, 0)


@pytest.mark.parametrize("editor", ["ike", "lora", "serac"])
def test_pictures_are_served_to_every_other_editor(
    editor: str, world: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    chosen = f"editor={editor}"
    if editor == "serac":
        chosen = f"ckpt={request.getfixturevalue('serac')}/checkpoints/best.ckpt"
    found = evaluated(world, tmp_path, chosen, "scenario=multimodal", "data.limit=6")
    assert (found["editor"], found["n_edits"]) == (editor, 6)
    assert found["means"]["Reliability_S"] > 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("editor=rome", "scenario=multimodal"), "an edit prompt about a picture does not name"),
        (("editor=rome", "editor.layer=7"), "this model has decoder layers 0 to 3"),
        (("editor=lora", "editor.layers=9"), "the base model has 4 decoder layers"),
        (("editor=ike", "editor.k=900"), "the training split, which has 640 records"),
        (("editor=ike", "editor.encoder=no/such"), "not on disk and could not be downloaded"),
    ],
)
def test_what_cannot_be_done_is_told_before_weights_load(
    options: tuple[str, ...], message: str, world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    printed = run(
        "evaluate.py", "experiment=demo", f"data.root={world}", f"output_dir={folder}", *options,
        status=2,
    )  # fmt: skip
    assert message in " ".join(printed.split())
    assert "candidate edits kept" not in printed
    assert not folder.exists()
