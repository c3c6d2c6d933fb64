"""A root to stand in: the paths that configurations name are there, empty."""

from pathlib import Path

import pytest

from tests.checkpoints import bare_checkpoint

_ENVIRONMENT = (
    "SLURM_JOB_ID", "SLURM_PROCID", "SLURM_RESTART_COUNT", "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID", "TORCHELASTIC_RESTART_COUNT", "LOCAL_RANK",
    "RANK",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for twin in ("llava_tiny", "blip2_opt_tiny", "minigpt4_tiny"):
        (tmp_path / "models/pretrained" / twin).mkdir(parents=True)
    for folder in ("checkpoints/minigpt4-7b", "data"):
        (tmp_path / folder).mkdir(parents=True)
    bare_checkpoint(tmp_path / "editor.ckpt")
    monkeypatch.chdir(tmp_path)
    for name in _ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
