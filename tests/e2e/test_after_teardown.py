"""What follows the last batch, in a group that takes tensors of a GPU alone, as NCCL does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.commands import run

pytestmark = [pytest.mark.e2e, pytest.mark.ddp]
ON_GPUS = "tests/e2e/as_on_gpus.py"
COMMON = ("experiment=demo", "logger=csv", "trainer.enable_progress_bar=false")


def test_an_evaluation_ends(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    printed = run(
        "tests/e2e/ranks.py", "torchrun", ON_GPUS, "evaluate.py", *COMMON, "editor=none",
        f"data.root={world}", "data.limit=3", "evaluate.batch_size=1", "trainer=ddp_cpu",
        f"output_dir={folder}",
    )  # fmt: skip
    assert printed.count("Written to") == 1
    assert json.loads((folder / "summary.json").read_text())["n_edits"] == 3
    assert not (folder / "partial").exists()


def test_a_sequential_evaluation_ends(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(
        ON_GPUS, "evaluate.py", *COMMON, "editor=none", f"data.root={world}",
        "protocol=sequential", "protocol.n=1,2", f"output_dir={folder}",
    )  # fmt: skip
    assert (folder / "curve.parquet").is_file()
    assert (folder / "curve.png").is_file()


def test_a_training_ends(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    printed = run(
        "tests/e2e/ranks.py", "srun", ON_GPUS, "train.py", *COMMON, "editor=mend",
        f"data.root={world}", "data.limit=8", "trainer.max_steps=1", "trainer=ddp_cpu",
        f"output_dir={folder}",
    )  # fmt: skip
    assert printed.count("last.ckpt") == 1
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "curves.png").is_file()
