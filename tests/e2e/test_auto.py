"""model=auto by the user's command, on a tiny random Qwen2-VL."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.auto_cases import save
from tests.e2e.commands import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow]


def test_a_family_without_a_class_of_its_own_is_edited_and_judged(
    world: Path, tmp_path: Path
) -> None:
    folder = save("qwen2_vl", tmp_path / "model")
    printed = run(
        "evaluate.py", "editor=ft", "experiment=demo", "model=auto", f"model.path={folder}",
        "model.name=qwen2_vl", "scenario=multimodal", "data.filter_known=none", "data.limit=2",
        "logger=none", "trainer.enable_progress_bar=false", f"data.root={world}",
        f"output_dir={tmp_path / 'result'}",
    )  # fmt: skip
    assert "FT on qwen2_vl" in printed
    found = json.loads((tmp_path / "result" / "summary.json").read_text())
    assert (found["editor"], found["model"], found["n_edits"]) == ("ft", "qwen2_vl", 2)
    assert found["metrics"]["Reliability_S"]["mean"] > 0  # steps were taken on random weights
    assert found["metrics"]["Locality_T"]["n"] == 2
