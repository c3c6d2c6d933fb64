"""A run that ends between its last edit and its last file is brought to its end without a model."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import evaluate
from configs.check import load_config
from configs.rundir import check_output_dir
from configs.schema import EvaluateConfig
from errors import ConfigError
from tests.e2e.commands import Warm, run
from tests.e2e.offline_runs import read_runs

pytestmark = pytest.mark.e2e


class KilledError(BaseException):
    """Stands for SIGKILL: nothing in the command answers to it."""


def words(world: Path, folder: Path, *more: str) -> list[str]:
    return [
        "editor=ft", "experiment=demo", "scenario=unimodal", f"data.root={world}", "data.limit=4",
        "evaluate.batch_size=2", "data.filter_known=none", "editor.steps=2",
        "trainer.enable_progress_bar=false", "logger.table_edits=3", f"output_dir={folder}", *more,
    ]  # fmt: skip


@pytest.fixture
def evaluated(world: Path, tmp_path: Path) -> Callable[..., Path]:
    """Evaluates in this process, into one folder."""

    def evaluate_here(*more: str) -> Path:
        config = load_config("evaluate", words(world, tmp_path / "run", *more))
        assert isinstance(config, EvaluateConfig)
        check_output_dir(config)
        evaluate.main(config)
        return tmp_path / "run"

    return evaluate_here


@pytest.fixture(scope="module")
def unbroken(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("end") / "unbroken"
    run("evaluate.py", *words(world, folder))
    return folder


def content(folder: Path) -> dict[str, Any]:
    """What a result says besides times and places."""
    summary = json.loads((folder / "summary.json").read_text())
    edits = pd.read_parquet(folder / "edits.parquet").drop(columns="seconds")
    probes = pd.read_parquet(folder / "probes.parquet")
    return {
        "metrics": summary["metrics"], "n_edits": summary["n_edits"], "edits": edits.to_json(),
        "probes": probes.to_json(), "files": sorted(p.name for p in folder.iterdir()),
    }  # fmt: skip


def check_sent(folder: Path) -> None:
    """W&B has the run once and whole."""
    (sent,) = read_runs(folder)
    assert sent.status == 0
    assert len(sent.table("result")) == len(content(folder)["metrics"])
    assert len({line["edit_id"] for line in sent.table("edits")}) == 3
    assert sent.pictures("figures/metrics")
    assert sum("edits.path" in line for line in sent.history) == 1


POINTS = (
    "loggers.wandb_results.send_folder",
    "loggers.wandb_results._send_edits",
    "loggers.wandb_run._write_problem",
    "results.partial.remove_partial",
)


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From its call on, no model can be loaded."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a model is loaded")

    return lambda: monkeypatch.setattr("runner.assembly.open_parts", refuse)


def test_a_run_that_is_killed_after_its_last_edit_is_brought_to_its_end(
    evaluated: Callable[..., Path],
    unbroken: Path,
    no_model: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One run, which is scored once and then dies at each point in turn."""

    def die(*_: Any, **__: Any) -> None:
        raise KilledError

    for point in POINTS:
        with monkeypatch.context() as patched:
            patched.setattr(point, die)
            with pytest.raises(KilledError):
                evaluated("resume=true")
        no_model()
    folder = evaluated("resume=true")
    check_sent(folder)
    assert content(folder) == content(unbroken)


def test_a_kill_between_the_summary_and_its_sending(
    world: Path, tmp_path: Path, unbroken: Path, evaluated: Callable[..., Path],
    no_model: Callable[[], None],
) -> None:  # fmt: skip
    folder = tmp_path / "run"
    waiting = "tests/e2e/evaluate_without_sending.py"
    process = Warm([waiting, *words(world, folder)], [os.devnull, os.devnull])
    while not (folder / "summary.json").exists():
        assert not process.ended(), "the run ended before it could be killed"
        time.sleep(0.01)
    process.kill()
    assert (folder / "partial").is_dir()
    before = (folder / "summary.json").read_bytes()
    no_model()
    evaluated("resume=true")
    check_sent(folder)
    assert (folder / "summary.json").read_bytes() == before
    assert content(folder) == content(unbroken)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("trainer.precision=bf16-mixed", "trainer.precision was '32-true' and is 'bf16-mixed'"),
        ("model.dtype=bfloat16", "model.dtype was 'float32' and is 'bfloat16'"),
    ],
)
def test_a_finished_run_in_another_precision_is_not_this_one(
    unbroken: Path, world: Path, word: str, message: str
) -> None:
    config = load_config("evaluate", words(world, unbroken, "resume=true", word))
    with pytest.raises(ConfigError, match=message):
        check_output_dir(config)
