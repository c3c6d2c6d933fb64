"""What a run is, for one that goes on with it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from configs.check import load_config
from errors import ConfigError
from results.partial import PartialResults
from runner.start import Placement
from runner.summary import Run


def identity(dtype: torch.dtype, device: str, *words: str) -> dict[str, Any]:
    cfg: Any = load_config("evaluate", ["editor=none", "experiment=demo", *words])
    parts: Any = SimpleNamespace(model=SimpleNamespace(hf=SimpleNamespace(dtype=dtype)))
    run = Run(cfg, parts, parts, Placement(cfg, 1, torch.device(device)))
    vars(run)["digests"] = {}
    return run.identity()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ((torch.bfloat16, "cpu"), "dtype was 'float32' and is 'bfloat16'"),
        ((torch.float32, "cuda:1"), "device was 'cpu' and is 'cuda'"),
        ((torch.float32, "cpu", "trainer.precision=bf16-mixed"), "trainer.precision was '32-true'"),
    ],
)
def test_a_run_does_not_go_on_in_another_precision_or_on_another_device(
    other: Any, message: str, tmp_path: Path
) -> None:
    """Whatever `model.dtype=auto` and `trainer.accelerator=auto` come to when it goes on."""
    PartialResults(tmp_path, identity(torch.float32, "cpu")).open()
    with pytest.raises(ConfigError, match=message):
        PartialResults(tmp_path, identity(*other)).open()


@pytest.mark.parametrize(
    "word",
    [
        "trainer.deterministic=true",
        "threads=2",
        "logger=none",
        "data.num_workers=2",
        "data.on_error=skip",  # what it leaves out is in the digest of what is asked
        "evaluate.batch_size=3",
    ],
)
def test_what_changes_no_number_is_free(word: str, tmp_path: Path) -> None:
    PartialResults(tmp_path, identity(torch.float32, "cpu")).open()
    assert PartialResults(tmp_path, identity(torch.float32, "cpu", word)).open() == []
