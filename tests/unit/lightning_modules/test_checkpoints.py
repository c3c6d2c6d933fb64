"""A training that is killed anywhere and started again ends as one that was left alone."""

from __future__ import annotations

import logging
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, EarlyStopping, LearningRateMonitor
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from configs.signals import Signals
from datamodules.order import EditLoader, EditOrder
from errors import DataError, Stopped
from lightning_modules.checkpoints import (
    BEST,
    LAST,
    Checkpoints,
    SafeFiles,
    continue_from,
    is_validated,
)
from loggers.curve_file import CurveFile
from tests.disks import files_up_to

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
EDITS = 7


class Killed(BaseException):
    """What SIGKILL does: nothing that follows takes place."""


class Line(L.LightningModule):
    """A line through points, whose loss in validation falls, rises and falls again."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.line = torch.nn.Linear(1, 1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = (self.line(batch) - torch.sin(batch)).square().mean()
        self.log("train/loss", loss.detach())
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        away = (self.trainer.global_step % 5 - 2) ** 2
        self.log("val/loss", (self.line(batch) - batch).square().mean() + away, batch_size=1)

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=0.1)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {
                "scheduler": LambdaLR(optimizer, lambda step: 1 / (1 + step)), "interval": "step",
            },
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        continue_from(checkpoint, self.trainer)


class Moments(Callback):
    """Counts the moments of a training and ends it at one of them."""

    def __init__(self, at: int | None) -> None:
        self.at, self.seen = at, count()
        self.names: list[str] = []

    def pass_by(self, name: str) -> None:
        self.names.append(name)
        if next(self.seen) == self.at:
            raise Killed

    def before(self) -> Callback:
        """Stands before the callback that saves."""
        return self._hooks(Callback, "before")

    def after(self) -> Callback:
        """Stands behind it."""
        return self._hooks(Checkpoint, "after")

    def _hooks(self, base: type[Callback], place: str) -> Callback:
        def hook(name: str) -> Callable[..., None]:
            return lambda *_: self.pass_by(f"{place} {name}")

        names = (
            "on_train_start", "on_train_batch_start", "on_before_optimizer_step",
            "on_train_batch_end", "on_validation_start", "on_validation_batch_end",
            "on_validation_end", "on_train_epoch_end", "on_train_end",
        )  # fmt: skip
        return type(f"{place.title()}Hooks", (base,), {name: hook(name) for name in names})()


class Files(SafeFiles):
    """Writes with a moment before and after each file."""

    def __init__(self, moments: Moments) -> None:
        super().__init__()
        self.moments = moments

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        self.moments.pass_by(f"saving {Path(path).name}")
        super().save_checkpoint(checkpoint, path)
        self.moments.pass_by(f"saved {Path(path).name}")


class Curves(CurveFile):
    """Never writes at the end of a killed run."""

    def finalize(self, status: str) -> None:
        if status != "failed":
            super().finalize(status)


@contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(
    folder: Path,
    *,
    steps: int,
    val_every: int,
    accumulate: int = 1,
    save_every: int = 3,
    moments: Moments | None = None,
    patience: int | None = None,
    signals: Signals | None = None,
    callbacks: tuple[Callback, ...] = (),
) -> L.Trainer:
    """One start of the command: from last.ckpt where there is one."""
    moments = moments or Moments(None)
    last = folder / LAST
    stored = torch.load(last, weights_only=True) if last.is_file() else None
    curves = Curves(
        folder,
        continue_after=stored["global_step"] if stored else None,
        validated=is_validated(stored) if stored else True,
    )
    files = Files(moments)
    points = [torch.tensor([float(number)]) for number in range(EDITS)]
    data = EditLoader(
        list(enumerate(points)),  # type: ignore[arg-type]
        EditOrder(EDITS, 1, seed=1, accumulate=accumulate),
        _stacked,  # type: ignore[arg-type]
    )
    kept = Checkpoints(folder, save_every=save_every, stop=signals or Signals(), files=files)
    stopping = [EarlyStopping("val/loss", patience=patience)] if patience else []
    trainer = L.Trainer(
        max_steps=steps, val_check_interval=val_every * accumulate, check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate, logger=[curves], accelerator="cpu", devices=1,
        callbacks=[LearningRateMonitor("step"), *stopping, moments.before(), kept, moments.after(),
                   *callbacks],
        enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=2, num_sanity_val_steps=0, default_root_dir=str(folder),
    )  # fmt: skip
    with quiet():
        trainer.fit(
            Line(), data, DataLoader([torch.ones(1), torch.zeros(1)], batch_size=None),  # type: ignore[arg-type]
            ckpt_path=str(last) if stored else None, weights_only=True,
        )  # fmt: skip
    return trainer


def _stacked(edits: list[tuple[int, Tensor]]) -> Tensor:
    return torch.stack([point for _, point in edits])


def result(folder: Path) -> dict[str, Any]:
    """What a training leaves."""
    files = {name: torch.load(folder / name, weights_only=True) for name in (BEST, LAST)}
    return {"metrics.csv": (folder / "metrics.csv").read_text(), **files}


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["metrics.csv"] == expected["metrics.csv"]
    for name in (BEST, LAST):
        for key in ("global_step", "state_dict", "optimizer_states", "lr_schedulers", "callbacks",
                    "loops", "progress"):  # fmt: skip
            assert plain(found[name][key]) == plain(expected[name][key]), f"{name} {key}"


def plain(value: Any) -> Any:
    """Tensors as lists, which compare."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value.tolist() if isinstance(value, Tensor) else value


CASES: dict[str, dict[str, Any]] = {
    "validation within epochs": {"steps": 9, "val_every": 2},
    "validation at the end of epochs": {"steps": 15, "val_every": 7},
    "saves at the end of epochs": {"steps": 15, "val_every": 4, "save_every": 7},
    "two batches to a step": {"steps": 5, "val_every": 2, "accumulate": 2, "save_every": 1},
    "out of patience": {"steps": 12, "val_every": 2, "patience": 2},
}


@pytest.fixture(autouse=True)
def fast_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the disk is held by tests/unit/results/test_files.py."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.mark.parametrize("case", CASES)
def test_killed_at_any_moment(case: str, tmp_path: Path) -> None:
    """At every seventh of them, each case at others; all of them are in `make test-faults`."""
    killed_and_continued(case, tmp_path, slice(list(CASES).index(case), None, 7))


def killed_and_continued(case: str, base: Path, which: slice) -> None:
    arguments: dict[str, Any] = CASES[case]
    moments = Moments(None)
    fit(base / "unbroken", moments=moments, **arguments)
    unbroken = result(base / "unbroken")
    for at in range(len(moments.names))[which]:
        folder = base / str(at)
        with pytest.raises(Killed):
            fit(folder, moments=Moments(at), **arguments)
        fit(folder, **arguments)
        try:
            assert_same(result(folder), unbroken)
        except AssertionError as error:
            raise AssertionError(f"killed at moment {at}, {moments.names[at]}: {error}") from error


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
        file.write("0,1e-3,7")
    fit(tmp_path / "run", **arguments)
    assert_same(result(tmp_path / "run"), result(tmp_path / "unbroken"))
