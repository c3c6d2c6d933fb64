"""What GPUs compute in, through the commands and on a CPU: model.dtype=bfloat16, bf16-mixed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.e2e.commands import ROOT, run

pytestmark = pytest.mark.e2e


def test_an_editor_is_trained_and_judged_on_a_base_in_bfloat16(world: Path, tmp_path: Path) -> None:
    """BLIP-2's Q-Former stays in float32, and the result tells the language model's type.

    It edits maps of the attention besides the MLP's.
    """
    trained, judged = tmp_path / "trained", tmp_path / "judged"
    run(
        "train.py", "experiment=demo", "editor=mend", "model=blip2_opt_tiny", "logger=none",
        "scenario=multimodal", "data.limit=32", "data.filter_known=none", "trainer.max_steps=2",
        "trainer.val_every=2", "model.dtype=bfloat16", "trainer.precision=bf16-mixed",
        "editor.matrices=[query,value,mlp_out]", "editor.layers=2", f"data.root={world}",
        f"output_dir={trained}",
    )  # fmt: skip
    ckpt = trained / "checkpoints" / "best.ckpt"
    weights = torch.load(ckpt, weights_only=True)["state_dict"]
    floats = [tensor for tensor in weights.values() if tensor.is_floating_point()]
    assert {tensor.dtype for tensor in floats} == {torch.float32}
    assert weights["editor.edit_lr"].shape == (2 * 3,)
    run(
        "evaluate.py", f"ckpt={ckpt}", "scenario=multimodal", "data.limit=2", "logger=none",
        f"output_dir={judged}",
    )  # fmt: skip
    summary = json.loads((judged / "summary.json").read_text())
    assert summary["settings"]["dtype"] == "bfloat16"
    assert summary["environment"]["dtype"] == "bfloat16"
    assert 0 <= summary["metrics"]["Reliability_S"]["mean"] <= 100


def test_answers_that_are_no_numbers_end_a_run(world: Path, tmp_path: Path) -> None:
    """Such a run ended with status 0 and a Locality of 100."""
    model, out = tmp_path / "model", tmp_path / "out"
    shipped, no_hashes = ROOT / "models/pretrained/llava_tiny", shutil.ignore_patterns("manifest.*")
    shutil.copytree(shipped, model, ignore=no_hashes)
    weights = load_file(model / "model.safetensors")
    (name,) = [key for key in weights if key.endswith("embed_tokens.weight")]
    weights[name][-1] = torch.nan  # is the head, too
    save_file(weights, model / "model.safetensors", metadata={"format": "pt"})
    printed = run(
        "evaluate.py", "experiment=demo", "editor=none", "scenario=unimodal", "logger=none",
        "data.limit=2", "data.filter_known=none", f"model.path={model}", f"data.root={world}",
        f"output_dir={out}", status=2,
    )  # fmt: skip
    said = " ".join(printed.split())
    assert "error: the model's own logits are nan" in said
    assert "first at edit 0 (" in said
    assert "probe reliability" in said
    assert "Traceback" not in said
    assert not (out / "summary.json").exists()
