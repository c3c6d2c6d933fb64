"""The jobs of a sweep: none ends another, all are told of, and nothing is left behind."""

from __future__ import annotations

import gc
import logging
import os
import pickle
import signal
import weakref
from pathlib import Path

import pytest
import torch

from configs.check import preflight
from configs.composing import hydra_ready
from configs.overrides import parse_words, sweep_jobs
from configs.schema import EvaluateConfig
from configs.sweep import JobFailed
from errors import DataError
from tests.sweeps import Elsewhere, Scores, plugin, sweep


def seeded(cfg: EvaluateConfig) -> float | None:
    """Seed 1 is a mistake of the user, seed 2 a bug."""
    Path(cfg.output_dir).mkdir(parents=True, exist_ok=True)
    if cfg.seed == 1:
        raise DataError("record 3 is broken.")
    if cfg.seed == 2:
        raise ZeroDivisionError("a bug")
    return 10.0 + cfg.seed


def test_a_job_that_fails_ends_no_other_and_the_table_tells_of_all(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    caplog.set_level(logging.INFO)
    Path("runs/mine/2").mkdir(parents=True)
    Path("runs/mine/2/summary.json").touch()
    names = []

    def main(cfg: EvaluateConfig) -> float | None:
        names.append(cfg.named("ft"))
        return seeded(cfg)

    words = ("seed=0,1,2,3", "scenario=unimodal", "output_dir=runs/mine")
    assert sweep(monkeypatch, main, *words) == 2
    assert names == ["ft seed=0", "ft seed=1", "ft seed=3"]
    printed = capsys.readouterr()
    rows = [line.split("│")[1:-1] for line in printed.out.splitlines() if "runs/mine" in line]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert [[c[0], c[1], c[2], c[4], c[5]] for c in cells] == [
        ["1", "seed=0", "done", "10", "runs/mine/0"],
        ["2", "seed=1", "error", "", "runs/mine/1"],
        ["3", "seed=2", "error", "", "runs/mine/2"],
        ["4", "seed=3", "done", "13", "runs/mine/3"],
    ]
    assert "error: record 3 is broken." in printed.err
    assert "output_dir=runs/mine/2 already holds a run" in printed.err
    assert "Traceback" not in printed.err
    assert "2 of 4 jobs failed" in printed.err
    assert [m for m in caplog.messages if m.startswith("job ")] == [
        f"job {number} of 4: seed={number - 1}" for number in range(1, 5)
    ]


def test_a_bug_keeps_its_traceback_and_gives_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(monkeypatch, seeded, "seed=2,0", "output_dir=runs/mine") == 1
    printed = capsys.readouterr()
    assert "ZeroDivisionError: a bug" in printed.err
    assert "in seeded" in printed.err
    assert printed.err.count("Traceback") == 1
    assert Path("runs/mine/1").is_dir()


def test_jobs_of_one_model_follow_each_other_and_keep_their_numbers(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "150")
    ran = []

    def main(cfg: EvaluateConfig) -> float | None:
        ran.append((cfg.model.name, cfg.seed, cfg.output_dir))
        return seeded(cfg)

    words = ("seed=0,3", "model=llava_tiny,blip2_opt_tiny", "output_dir=runs/mine")
    assert sweep(monkeypatch, main, *words) == 0
    assert ran == [
        ("llava_tiny", 0, "runs/mine/0"), ("llava_tiny", 3, "runs/mine/2"),
        ("blip2_opt_tiny", 0, "runs/mine/1"), ("blip2_opt_tiny", 3, "runs/mine/3"),
    ]  # fmt: skip
    rows = [line.split("│")[1:-1] for line in capsys.readouterr().out.splitlines() if "│" in line]
    assert [[row[0].strip(), row[4].strip(), row[5].strip()] for row in rows] == [
        ["1", "10", "runs/mine/0"], ["2", "10", "runs/mine/1"],
        ["3", "13", "runs/mine/2"], ["4", "13", "runs/mine/3"],
    ]  # fmt: skip


def test_an_interrupt_ends_the_sweep_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def interrupted(cfg: EvaluateConfig) -> None:
        started.append(cfg.seed)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(monkeypatch, interrupted, "seed=0,1")
    assert started == [0]


def test_jobs_that_run_elsewhere_are_told_of_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (plugin(monkeypatch, Elsewhere), "seed=0,1,2", "output_dir=runs/mine")
    assert sweep(monkeypatch, seeded, *words) == 1
    printed = capsys.readouterr()
    assert "job 2 of 3: record 3 is broken." in printed.err
    assert "ZeroDivisionError: a bug" in printed.err
    assert [line.split("│")[3].strip() for line in printed.out.splitlines() if "│" in line] == [
        "done", "error", "bug",
    ]  # fmt: skip


def test_a_failure_can_be_sent_to_another_process() -> None:
    sent = pickle.loads(pickle.dumps(JobFailed("no such file", is_bug=True)))
    assert (str(sent), sent.is_bug) == ("no such file", True)


def test_other_sweepers_get_scores_and_failures_and_no_number_for_a_failure(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Scores.seen.clear()
    words = (plugin(monkeypatch, Scores),)
    assert sweep(monkeypatch, seeded, *words, "seed=0,1,3") == 2
    first, failure, last = Scores.seen
    assert (first, last) == (10.0, 13.0)
    assert isinstance(failure, JobFailed)
    assert str(failure) == "record 3 is broken."


def test_nothing_of_a_job_is_left_in_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    alive: list[weakref.ref[torch.nn.Module]] = []
    found = []

    def state() -> list[object]:
        return [
            dict(os.environ),
            signal.getsignal(signal.SIGUSR1),
            list(logging.getLogger().handlers),
            torch.get_num_threads(),
            torch.are_deterministic_algorithms_enabled(),
        ]

    def leaves_much(cfg: EvaluateConfig) -> None:
        found.append([sum(ref() is not None for ref in alive), *state()])
        model = torch.nn.Linear(2, 2)
        model.myself = model.forward  # type: ignore[assignment]  # a cycle, as trainers and modules make one
        alive.append(weakref.ref(model))
        os.environ["TMKE_LEFT"] = "1"
        signal.signal(signal.SIGUSR1, lambda *_: None)
        logging.getLogger().addHandler(logging.NullHandler())
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True)
        if cfg.seed == 1:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise DataError("second") from error

    gc.disable()  # only what the sweep itself collects
    try:
        assert sweep(monkeypatch, leaves_much, "seed=0,1,2") == 2
    finally:
        gc.enable()
    assert found[0] == found[1] == found[2]
    assert found[0][0] == 0
    assert "TMKE_LEFT" not in os.environ


def test_an_interval_is_checked_at_its_ends_and_needs_a_sweeper_that_picks_values() -> None:
    word = "editor.lr=interval(0.001,0.1)"
    assert sweep_jobs(parse_words([word]).overrides) == [["editor.lr=0.001"], ["editor.lr=0.1"]]
    with hydra_ready():
        problems = preflight("evaluate", ["editor=ft", word], multirun=True)[1]
    assert len(problems) == 1
    assert f"{word}: an interval is for a sweeper that picks values" in problems[0]
