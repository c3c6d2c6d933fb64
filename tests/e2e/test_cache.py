"""The cache through the commands: a second editor computes nothing of the base model anew."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import evaluate
from caching.__main__ import main
from configs.check import load_config
from configs.schema import EvaluateConfig
from errors import USER_ERROR
from tests.e2e.test_end_of_run import content

pytestmark = pytest.mark.e2e


@pytest.fixture
def evaluated(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Evaluates in this process, a run into a folder of its own."""

    def evaluate_here(name: str, *more: str) -> Path:
        folder = tmp_path / name
        config = load_config(
            "evaluate",
            [
                "experiment=demo", "scenario=multimodal", f"data.root={world}", "data.limit=3",
                "evaluate.batch_size=2", "data.filter_known=none", "logger=none",
                "trainer.enable_progress_bar=false", f"output_dir={folder}", *more,
            ],
        )  # fmt: skip
        assert isinstance(config, EvaluateConfig)
        evaluate.main(config)
        return folder

    return evaluate_here


def from_cache(folder: Path) -> dict[str, Any]:
    counts = json.loads((folder / "summary.json").read_text())["from_cache"]
    return {kind: (of["hits"], of["misses"]) for kind, of in counts.items()}


def test_what_one_editor_asked_the_next_one_reads(
    evaluated: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, logger="runner.caching")
    monkeypatch.setenv("TMKE_CACHE", str(tmp_path / "cache"))
    ft = ("editor=ft", "editor.steps=2")
    without = evaluated("without", *ft, "metrics=vlkeb_compat")
    assert from_cache(without) == {}
    assert not (tmp_path / "cache").exists()  # a tiny model's answers are stored where asked for
    first = evaluated("none", "editor=none", "metrics=vlkeb_compat", "cache=on")
    (seen, pictures), (none, answers) = from_cache(first).values()
    assert (seen, none) == (0, 0)
    second = evaluated("with", *ft, "metrics=vlkeb_compat", "cache=on")
    assert from_cache(second) == {"pictures": (pictures, 0), "answers": (answers, 0)}
    assert content(second) == content(without)
    assert f"answers: {answers} of {answers} from the cache" in caplog.text

    capsys.readouterr()
    assert main(["list"]) == 0
    assert "llava_tiny" in capsys.readouterr().out
    assert main(["clear", "--model", "llava"]) == USER_ERROR
    assert "it holds llava_tiny" in capsys.readouterr().err
    assert main(["clear", "--model", "llava_tiny"]) == 0
    assert main(["clear"]) == 0
    assert main(["list"]) == USER_ERROR
    assert "holds no cache" in capsys.readouterr().err
