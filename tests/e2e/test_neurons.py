"""Knowledge neurons of a trained editor, by its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_checkpoint_brings_editor_and_model(mend_on_blip2: Path, tmp_path: Path) -> None:
    output = tmp_path / "neurons"
    ckpt = f"ckpt={mend_on_blip2}/checkpoints/last.ckpt"
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
