"""A checkpoint and a result of an earlier version still open and mean what they meant.

`tests/before` was written by the commands at 5ebc68f, before the rooms were laid out anew:

    train.py experiment=demo editor=mend editor.rank=2 editor.layers=1 trainer.max_steps=4
        trainer.val_every=2 data.limit=16 logger=csv
    evaluate.py experiment=demo ckpt=run/checkpoints/best.ckpt scenario=transitive data.limit=4
        logger=none
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from results.folder import read_edits, read_run
from tests.e2e.commands import ROOT, run

BEFORE = ROOT / "tests" / "before"


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """The folder of the training; a run that goes on writes into it."""
    return Path(shutil.copytree(BEFORE / "run", tmp_path / "run"))


def test_a_checkpoint_is_judged_as_it_was(trained: Path, world: Path, tmp_path: Path) -> None:
    run(
        "evaluate.py", "experiment=demo", f"ckpt={trained}/checkpoints/best.ckpt",
        "scenario=transitive", "data.limit=4", f"data.root={world}", "logger=none",
        f"output_dir={tmp_path}/result",
    )  # fmt: skip
    then, now = read_run(BEFORE / "result"), read_run(tmp_path / "result")
    assert {name: now.metrics[name] for name in then.metrics} == then.metrics
    texts = ["edit_id", "probe", "metric", "value", "pre_text", "post_text", "target"]
    edits, before = read_edits(now.folder)[texts], read_edits(then.folder)[texts]
    known = edits[edits["metric"].isin(before["metric"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(known, before, check_exact=True)
    assert set(edits["metric"]) - set(before["metric"]) == {"first_token"}


def test_a_checkpoint_without_its_config_goes_on(trained: Path, world: Path) -> None:
    (trained / "config.yaml").unlink()  # the checkpoint's copy says `editor.objective`
    run(
        "train.py", f"ckpt={trained}/checkpoints/best.ckpt", f"data.root={world}", "logger=csv",
        "trainer.max_steps=6", f"output_dir={trained}",
    )  # fmt: skip
    steps = pd.read_csv(trained / "metrics.csv")["step"]
    assert steps.max() == 5


def test_a_result_is_reported(tmp_path: Path) -> None:
    run("report.py", BEFORE / "result", "--output", tmp_path / "report")
    report = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "Pictures that were read" not in report, "it does not say"
    reliability = json.loads((BEFORE / "result" / "summary.json").read_text())["metrics"][
        "Reliability_S"
    ]["mean"]
    assert f"{reliability:.1f}" in report
