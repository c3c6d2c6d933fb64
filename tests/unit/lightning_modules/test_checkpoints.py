"""A training that is killed anywhere and started again ends as one that was left alone."""

from __future__ import annotations

import csv
import signal
from contextlib import suppress
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback

from configs.signals import Signals
from errors import DataError, Stopped
from lightning_modules.checkpoints import BEST, LAST
from lightning_modules.limits import StopInTime
from loggers.curve_file import CurveFile
from tests.broken_trainings import (
    CASES,
    Killed,
    Moments,
    assert_same,
    fit,
    killed_and_continued,
    plain,
    result,
)
from tests.disks import files_up_to


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the disk is held by tests/unit/results/test_files.py."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_moment(case: str, tmp_path: Path) -> None:
    """At every seventh of them, each case at others; all of them are in `make test-faults`."""
    killed_and_continued(case, tmp_path, slice(list(CASES).index(case), None, 7))


def test_killed_again_and_again(tmp_path: Path) -> None:
    """Every start gets a little further than the last one."""
    arguments: Any = CASES["saves at the end of epochs"] | {"save_every": 1}
    fit(tmp_path / "unbroken", **arguments)
    for _ in range(30):
        with suppress(Killed):
            fit(tmp_path / "run", moments=Moments(23), **arguments)
            break
    assert_same(result(tmp_path / "run"), result(tmp_path / "unbroken"))


class Signal(Callback):
    """Sends signals to the stand-in at a step: the first one notes, others raise."""

    def __init__(self, signals: Signals, hook: str, at: int, times: int = 1) -> None:
        def send(trainer: L.Trainer, *_: object) -> None:
            if trainer.global_step == at:
                for _time in range(times):
                    signals._handle(signal.SIGTERM, None)

        setattr(self, hook, send)


@pytest.mark.parametrize(
    ("hook", "at", "held", "says"),
    [
        ("on_before_optimizer_step", 4, 5, "after step 5"),
        ("on_before_optimizer_step", 5, 6, "after step 6"),  # validated afterwards
        ("on_before_optimizer_step", 8, 8, "after step 9, and the run goes on from step 8"),
        ("on_validation_batch_end", 6, 6, ""),
        ("on_validation_end", 9, 8, ""),
        ("on_train_batch_start", 0, 1, "after step 1"),
    ],
)
def test_a_signal_lets_the_step_end_and_loses_nothing(
    hook: str, at: int, held: int, says: str, tmp_path: Path
) -> None:
    arguments: Any = {"steps": 9, "val_every": 3, "save_every": 100}
    fit(tmp_path / "unbroken", **arguments)
    signals, folder = Signals(), tmp_path / "run"
    with pytest.raises(Stopped) as stopped:
        fit(folder, signals=signals, callbacks=(Signal(signals, hook, at),), **arguments)
    assert stopped.value.after == says
    assert torch.load(folder / LAST, weights_only=True)["global_step"] == held
    fit(folder, **arguments)
    assert_same(result(folder), result(tmp_path / "unbroken"))


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    signals = Signals()
    twice = Signal(signals, "on_before_optimizer_step", 4, times=2)
    with pytest.raises(Stopped) as stopped:
        fit(tmp_path, steps=9, val_every=3, signals=signals, callbacks=(twice,))
    assert stopped.value.after == ""
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 3


def test_time_that_is_up_during_the_last_step_cuts_nothing_short(tmp_path: Path) -> None:
    """Nor is it taken for a signal, so that one which comes in that step is the first."""
    signals = Signals()
    in_time = StopInTime("00:00:00:00", signals)
    fit(tmp_path, steps=1, val_every=1, accumulate=2, signals=signals, callbacks=(in_time,))
    assert not signals.received
    assert torch.load(tmp_path / BEST, weights_only=True)["global_step"] == 1


def test_a_signal_during_a_save_lets_it_end(tmp_path: Path) -> None:
    signals = Signals()

    class Interrupted(Moments):
        def pass_by(self, name: str) -> None:
            if name == "saving best.ckpt":
                signals.deferred = False
                signals._handle(signal.SIGTERM, None)

    with pytest.raises(Stopped):
        fit(tmp_path, steps=9, val_every=3, signals=signals, moments=Interrupted(None))
    assert torch.load(tmp_path / BEST, weights_only=True)["global_step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == [BEST, LAST, "metrics.csv"]


class Full(Callback):
    """The disk is full from one step to another: no file may grow beyond a few bytes."""

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last
        self.limit: Any = None

    def on_train_batch_start(self, trainer: L.Trainer, *_: object) -> None:
        if trainer.global_step == self.first and self.limit is None:
            self.limit = files_up_to(2000)
            self.limit.__enter__()
        if trainer.global_step == self.last:
            self.limit.__exit__(None, None, None)


def test_a_full_disk_is_told_and_the_training_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arguments: dict[str, Any] = {"steps": 9, "val_every": 3, "save_every": 2}
    fit(tmp_path / "unbroken", **arguments)
    fit(tmp_path / "run", callbacks=(Full(3, 7),), **arguments)
    told = [record.getMessage() for record in caplog.records if record.name.startswith("lightn")]
    assert len([t for t in told if "cannot be written (File too large)" in t]) == 1
    assert any("a killed run goes on from step 3" in text for text in told)
    assert any("is written again" in text for text in told)
    found, expected = result(tmp_path / "run"), result(tmp_path / "unbroken")
    assert found["metrics.csv"] == expected["metrics.csv"]
    assert plain(found[LAST]["state_dict"]) == plain(expected[LAST]["state_dict"])


def test_a_disk_that_stays_full_ends_with_what_is_lost(tmp_path: Path) -> None:
    full = Full(4, 99)
    with pytest.raises(DataError, match=r"step 9, is lost.*resume=true: it goes on from step 3"):
        fit(tmp_path, steps=9, val_every=3, save_every=100, callbacks=(full,))
    full.limit.__exit__(None, None, None)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 3
    fit(tmp_path, steps=9, val_every=3)
    assert torch.load(tmp_path / LAST, weights_only=True)["global_step"] == 9


def test_the_temporary_folder_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    fit(tmp_path / "run", steps=2, val_every=1)
    assert (tmp_path / "run" / BEST).is_file()


def test_a_moved_folder_keeps_its_best(tmp_path: Path) -> None:
    fit(tmp_path / "here", steps=6, val_every=2)
    before = torch.load(tmp_path / "here" / BEST, weights_only=True)
    (tmp_path / "here").rename(tmp_path / "there")
    fit(tmp_path / "there", steps=8, val_every=8)  # its loss is worse
    after = torch.load(tmp_path / "there" / BEST, weights_only=True)
    assert after["global_step"] == before["global_step"]


def test_a_line_of_the_curves_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    arguments: Any = {"steps": 9, "val_every": 3}
    fit(tmp_path / "unbroken", **arguments)
    fit(tmp_path / "run", **(arguments | {"steps": 6}))
    with (tmp_path / "run" / "metrics.csv").open("a") as file:
        file.write("0,0.0")  # without its step
    fit(tmp_path / "run", **arguments)
    assert_same(result(tmp_path / "run"), result(tmp_path / "unbroken"))


def test_a_rate_that_is_typed_anew_is_used_from_the_next_step_on(tmp_path: Path) -> None:
    fit(tmp_path, steps=4, val_every=4)
    fit(tmp_path, steps=6, val_every=2, rate=0.7)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        lines = [line for line in csv.DictReader(file) if line["lr-Adam"]]
    rates = {int(line["step"]): float(line["lr-Adam"]) for line in lines}
    assert rates == pytest.approx({1: 0.1 / 2, 3: 0.1 / 4, 5: 0.7 / 6})
    stored = torch.load(tmp_path / LAST, weights_only=True)
    assert stored["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0.7 / 7)
    assert stored["lr_schedulers"][0]["base_lrs"] == [0.7]


def test_a_patience_that_is_typed_anew_counts(tmp_path: Path) -> None:
    arguments: Any = {"steps": 12, "val_every": 2}
    ended = fit(tmp_path / "run", **arguments, patience=2).global_step
    assert ended < 12
    assert fit(tmp_path / "run", **arguments, patience=2).global_step == ended
    fit(tmp_path / "unbroken", **arguments, patience=9)
    fit(tmp_path / "run", **arguments, patience=9)
    assert (tmp_path / "run" / "metrics.csv").read_text() == (
        tmp_path / "unbroken" / "metrics.csv"
    ).read_text()


def test_a_best_checkpoint_that_is_gone_is_made_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fit(tmp_path, steps=4, val_every=2)
    (tmp_path / BEST).unlink()
    fit(tmp_path, steps=5, val_every=5)
    assert torch.load(tmp_path / BEST, weights_only=True)["global_step"] == 5
    assert "the best from here on is kept" in caplog.text


def test_a_step_is_not_written_again_after_its_validation(tmp_path: Path) -> None:
    """Steps 3 and 6 are validated: the first is written before and after, the last one after."""
    moments = Moments(None)
    fit(tmp_path, steps=6, val_every=3, save_every=3, moments=moments)
    assert moments.names.count("saved last.ckpt") == 4


class Written(Callback):
    """What no curve has on disk where a checkpoint is being written."""

    def __init__(self) -> None:
        self.missing: list[int] = []

    def on_save_checkpoint(self, trainer: L.Trainer, *_: object) -> None:
        assert isinstance(trainer.logger, CurveFile)
        self.missing.append(len(trainer.logger.experiment.metrics))


def test_curves_are_on_disk_before_a_checkpoint_is(tmp_path: Path) -> None:
    written = Written()
    fit(tmp_path, steps=6, val_every=3, save_every=1, callbacks=(written,))
    assert written.missing == [0] * len(written.missing) != []
