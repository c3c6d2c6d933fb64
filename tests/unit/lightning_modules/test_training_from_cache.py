"""Training whose frozen part comes from the cache: the same losses, and no layer below the edit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch

from caching.store import Cache
from lightning_modules.editor_training import EditorTraining
from models.cache_scope import scope_of
from models.editable import EditableModel
from tests.builders import any_model
from tests.serac_cases import picture_model
from tests.unit.lightning_modules import test_mend_training as of_mend
from tests.unit.lightning_modules import test_serac_training as of_serac

# A float32 loss of 10 has steps of 1e-6, and one rounding in the base moves it by two.
pytestmark = pytest.mark.usefixtures("float64")
STEPS = 6  # of two edits each, over eight edits: the second epoch begins


class Losses(L.Callback):
    """The loss of every step, and of the validations."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_end(self, trainer: L.Trainer, *_: object) -> None:
        self.seen.append(float(trainer.callback_metrics["train/loss"]))

    def on_validation_end(self, trainer: L.Trainer, *_: object) -> None:
        if not trainer.sanity_checking:
            self.seen.append(float(trainer.callback_metrics["val/loss"]))


def mend(kind: str) -> Callable[[], EditorTraining]:
    return lambda: of_mend.training(any_model(kind))


def serac() -> EditorTraining:
    return of_serac.training(picture_model(), scenario="multimodal")


def double(module: EditorTraining) -> EditorTraining:
    module.model.double()
    return module.double()


def losses(module: EditorTraining, folder: Path) -> list[float]:
    noted = Losses()
    if isinstance(module, of_mend.MendTraining):
        of_mend.fit(module, steps=STEPS, folder=folder, callbacks=[noted])
    else:
        of_serac.fit(module, steps=STEPS, folder=folder, callbacks=[noted], pictures=True)
    return noted.seen


def cached(module: EditorTraining, folder: Path) -> EditableModel:
    kinds: Any = ("pictures", "answers", "states")
    module.model.cache = Cache.open(folder, 2**25, scope_of(module.model, "tiny"), kinds)
    return module.model


@pytest.mark.parametrize(
    "make",
    [mend("llava"), mend("opt"), serac],
    ids=["mend-llava", "mend-opt", "serac"],
)
def test_losses_are_those_without_a_cache(
    make: Callable[[], EditorTraining], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = losses(double(make()), tmp_path)
    first, second = double(make()), double(make())
    assert (first.model.dtype, next(first.parameters()).dtype) == (torch.float64, torch.float64)
    cached(first, tmp_path / "cache")
    assert losses(first, tmp_path) == pytest.approx(expected, abs=1e-9)
    model, work, layers = cached(second, tmp_path / "cache"), EditableModel.prefix, list[int]()

    def counted(self: Any, rows: Any, layer: int, **named: Any) -> Any:
        layers.append(int(rows.edit_index.unique().numel()))
        return work(self, rows, layer, **named)

    monkeypatch.setattr(EditableModel, "prefix", counted)
    assert losses(second, tmp_path) == pytest.approx(expected, abs=1e-9)
    assert layers == [2]  # a sample of the first batch
    assert model.cache.counts["states"].misses == 0
    assert torch.isfinite(torch.tensor(expected)).all()
