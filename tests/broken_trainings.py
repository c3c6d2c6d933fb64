"""A small training with the real callbacks, files and curves, killed at any of its moments.

A moment is a hook of Lightning, before or after the callback that saves, or one around the writing
of a file. A test counts them in a training that is left alone, kills another one at the n-th,
starts it again, and compares everything that both leave.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
from lightning_modules.callbacks import TypedRates
from lightning_modules.checkpoints import (
    BEST,
    LAST,
    Checkpoints,
    SafeFiles,
    continue_from,
    is_validated,
)
from loggers.curve_file import CurveFile

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
EDITS = 7


class Killed(BaseException):
    """What SIGKILL does: nothing that follows takes place."""


class Line(L.LightningModule):
    """A line through points, whose loss in validation falls, rises and falls again."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate
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
        optimizer = torch.optim.Adam(self.parameters(), lr=self.rate)
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
    rate: float = 0.1,
    files: SafeFiles | None = None,
    processes: int = 1,
) -> L.Trainer:
    """One start of the command: from last.ckpt where there is one.

    Of several processes this is one; their group is there already.
    """
    moments = moments or Moments(None)
    last = folder / LAST
    stored = torch.load(last, weights_only=True) if last.is_file() else None
    curves = Curves(
        folder,
        continue_after=stored["global_step"] if stored else None,
        validated=is_validated(stored) if stored else True,
    )
    points = [torch.tensor([float(number)]) for number in range(EDITS)]
    data = EditLoader(
        list(enumerate(points)),  # type: ignore[arg-type]
        EditOrder(EDITS, 1, seed=1, accumulate=accumulate),
        _stacked,  # type: ignore[arg-type]
    )
    checkpoints = Checkpoints(
        folder, save_every=save_every, stop=signals or Signals(), files=files or Files(moments)
    )
    stopping = [EarlyStopping("val/loss", patience=patience)] if patience else []
    trainer = L.Trainer(
        max_steps=steps, val_check_interval=val_every * accumulate, check_val_every_n_epoch=None,
        accumulate_grad_batches=accumulate, logger=[curves], accelerator="cpu",
        devices=processes, strategy="auto" if processes == 1 else "ddp",
        callbacks=[TypedRates(patience), LearningRateMonitor("step"), *stopping, moments.before(),
                   checkpoints, moments.after(), *callbacks],
        use_distributed_sampler=False,
        enable_progress_bar=False, enable_model_summary=False,
        log_every_n_steps=2, num_sanity_val_steps=0, default_root_dir=str(folder),
    )  # fmt: skip
    with quiet():
        trainer.fit(
            Line(rate), data, DataLoader([torch.ones(1), torch.zeros(1)], batch_size=None),  # type: ignore[arg-type]
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
