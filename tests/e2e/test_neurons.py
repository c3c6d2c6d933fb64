"""Knowledge neurons of a trained editor, by its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from datamodules.world import generate_world
from tests.e2e.commands import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_checkpoint_brings_editor_and_model(tmp_path: Path) -> None:
    output = tmp_path / "neurons"
    world = generate_world(tmp_path / "world", seed=0, size=50, seen_views=1, unseen_views=1)
    run(
        "train.py", "editor=mend", "model=blip2_opt_tiny", "experiment=demo", "data=folder",
        f"data.root={world}", "logger=csv", "trainer.max_steps=2", "trainer.limit_val_batches=1",
        f"output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    ckpt = f"ckpt={tmp_path / 'run' / 'checkpoints' / 'last.ckpt'}"
    words = ("-m", "analysis", "knowledge_neurons", ckpt, "--steps", "4",
             "scenario=multimodal", "data.limit=4")  # fmt: skip
    printed = run(*words, "--output", output)
    assert "MEND on blip2_opt_tiny, multimodal" in printed
    found = json.loads((output / "neurons.json").read_text())
    assert (found["editor"], found["model"], found["n_edits"]) == ("mend", "blip2_opt_tiny", 4)
    assert found["edited"] == {"mlp_in": [1, 2, 3], "mlp_out": [1, 2, 3]}
    assert found["answered"]["before"]["image"] == 4
    assert found["landing"]["mlp_out"]["before"]["image"]["value"]["n"] == 4
    assert "give another folder" in run(*words, "--output", output, status=2)
