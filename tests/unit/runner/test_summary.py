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


def test_a_run_does_not_go_on_with_what_an_earlier_version_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first half would be of logits in half precision, its second of logits in float32."""
    now = identity(torch.float32, "cpu")
    before = {key: value for key, value in now.items() if key != "scoring_version"}
    PartialResults(tmp_path / "before", before).open()
    with pytest.raises(ConfigError, match="an earlier version, which did not note scoring_version"):
        PartialResults(tmp_path / "before", now).open()
    PartialResults(tmp_path / "now", now).open()
    monkeypatch.setattr("runner.summary.SCORING_VERSION", now["scoring_version"] + 1)
    with pytest.raises(ConfigError, match=r"scoring_version was [0-9]+ and is"):
        PartialResults(tmp_path / "now", identity(torch.float32, "cpu")).open()


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


def test_a_run_of_before_goes_on_where_both_matrices_of_the_mlp_are_edited(tmp_path: Path) -> None:
    """An earlier version had no other choice, and noted none."""
    now = identity(torch.float32, "cpu", "editor=ft")
    new = {"editor.matrices", "editor.layer", "editor.breadth_first", "editor.minibatch"}
    assert not new & set(now)
    PartialResults(tmp_path, now).open()
    for word in ("editor.matrices=mlp_out", "editor.layer=1", "editor.breadth_first=true"):
        other = identity(torch.float32, "cpu", "editor=ft", word)
        with pytest.raises(ConfigError, match=word.partition("=")[0]):
            PartialResults(tmp_path, other).open()


def test_a_run_of_before_goes_on_where_no_end_token_is_taught(tmp_path: Path) -> None:
    """An earlier version did not note `editor.teach_end`, and taught none."""
    now = identity(torch.float32, "cpu", "editor=ft")
    assert "editor.teach_end" not in now
    PartialResults(tmp_path, now).open()
    taught = identity(torch.float32, "cpu", "editor=ft", "editor.teach_end=true")
    with pytest.raises(ConfigError, match=r"editor\.teach_end"):
        PartialResults(tmp_path, taught).open()
