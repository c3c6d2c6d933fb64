"""BLIP2-OPT and MiniGPT-4 through the same commands as LLaVA."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
TWINS = ("blip2_opt_tiny", "minigpt4_tiny")


def test_one_command_for_both_families_in_their_own_chat_forms(world: Path, tmp_path: Path) -> None:
    run(
        "evaluate.py", "-m", "experiment=demo", "editor=ft", f"model={','.join(TWINS)}",
        "scenario=multimodal", "data.prompt=native,default", f"data.root={world}", "data.limit=8",
        "data.filter_known=none", "logger=none", f"output_dir={tmp_path}",
    )  # fmt: skip
    found = [json.loads((tmp_path / str(n) / "summary.json").read_text()) for n in range(4)]
    assert [(one["model"], one["settings"]["prompt"]) for one in found] == [
        (twin, form) for twin in TWINS for form in ("native", "default")
    ]
    blip2, minigpt4 = (found[n]["settings"]["prompt_templates"]["picture"] for n in (0, 2))
    assert blip2 == "{picture}Question: {question} Answer:"
    assert minigpt4 == "###Human: <Img>{picture}</Img> {question} ###Assistant:"
    for one in found:
        assert one["metrics"]["Reliability_S"]["mean"] == 100  # FT learns its own edit in any form
    for one in (found[1], found[3]):
        assert one["metrics"]["Generality_S"]["mean"] > 80
        assert one["metrics"]["Locality_I"]["mean"] > 90


def test_mend_on_blip2_is_trained_and_judged(mend_on_blip2: Path, tmp_path: Path) -> None:
    run(
        "evaluate.py", f"ckpt={mend_on_blip2}/checkpoints/best.ckpt", "scenario=multimodal",
        "data.limit=4", "logger=none", f"output_dir={tmp_path}",
    )  # fmt: skip
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["editor"], found["model"], found["n_edits"]) == ("mend", "blip2_opt_tiny", 4)
    assert found["settings"]["data"]["limit"] == 4
