"""Workers of a loader while signals are sent to everyone."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.order import EditLoader, EditOrder
from datamodules.scenarios import SCENARIOS
from datamodules.sources.tmke import read_tmke
from errors import DataError
from models.processor import _pixels
from models.rows import EditBatch, Rows
from tests.unit.datamodules.test_datamodule import prompt_encoder, root
from tests.unit.datamodules.test_sources import RECORD, other, write

__all__ = ["root"]


def collate(edits: Any) -> list[int]:
    return [os.getpid(), *(number for number, _ in edits)]


@pytest.fixture
def batches() -> Iterator[Any]:
    edits: Any = [(number, number) for number in range(40)]
    loader: Any = EditLoader(edits, EditOrder(40, 2, seed=0), collate, num_workers=1)  # type: ignore[arg-type]
    return iter(loader)


@pytest.mark.parametrize("number", ["TERM", "INT", "USR1"])
def test_a_signal_to_everyone_ends_no_worker(number: str, batches: Any) -> None:
    worker, *_ = next(batches)
    subprocess.run(["kill", f"-{number}", str(worker)], check=True)  # not from its own process
    time.sleep(0.1)
    served = list(batches)
    assert len(served) == 19
    assert {batch[0] for batch in served} == {worker}


def test_its_own_process_ends_it(batches: Any) -> None:
    worker, *_ = next(batches)
    os.kill(worker, 15)
    with pytest.raises(DataError, match=r"is gone .*exited unexpectedly.*data\.num_workers"):
        list(batches)


@pytest.fixture
def data(root: Path) -> EditDataModule:
    """Three edits on pictures, with a real tokenizer and a real image processor."""
    last = other("Car B")
    last["image"] = "z.jpeg"
    Image.new("RGB", (9, 5), "red").save(root / "images" / "z.jpeg")
    write(root / "t.json", RECORD, other("Car A"), last)
    write(root / "train.json", *(other(f"Car {number}") for number in range(20, 40)))
    process = partial(_pixels, BlipImageProcessorPil(size={"height": 8, "width": 8}))
    source = read_tmke(root, files=["t.json"], train_files=["train.json"])
    scenarios = dict.fromkeys(("train", "test"), SCENARIOS["multimodal"])
    data = EditDataModule(source, scenarios, batch_size=4, eval_batch_size=1)
    data.connect(prompt_encoder(), ImageStore(process))
    data.setup()
    return data


def assert_equal(here: Sequence[EditBatch], there: Sequence[EditBatch]) -> None:
    """The same batches, number for number."""
    for one, two in zip(here, there, strict=True):
        assert (one.edit_ids, one.subjects) == (two.edit_ids, two.subjects)
        assert torch.equal(one.edit_rows, two.edit_rows)
        assert one.probes.keys() == two.probes.keys()
        assert all(torch.equal(one.probes[name], two.probes[name]) for name in one.probes)
        for field in fields(Rows):
            mine, its = getattr(one.rows, field.name), getattr(two.rows, field.name)
            same = torch.equal(mine, its) if isinstance(mine, torch.Tensor) else mine == its
            assert same, field.name


def test_workers_train_on_the_batches_that_the_run_itself_would_make(data: EditDataModule) -> None:
    here = data.train_dataloader()
    epochs = [list(here) for _ in range(2)]
    data.num_workers = 2
    there = data.train_dataloader()
    assert there.num_workers == 2
    for epoch in epochs:
        assert len(epoch) == 4
        assert_equal(epoch, list(there))
    assert there.state_dict() == here.state_dict()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_make_the_same_batches_and_meet_the_same_errors(
    data: EditDataModule, root: Path, method: str
) -> None:
    """However they are started, and with no pixels at their beginning.

    A process that is spawned imports torch anew: one of them is enough.
    """
    here = list(data.test_dataloader())
    (root / "images" / "z.jpeg").write_bytes(b"no picture")
    assert data._images is not None
    data._images.clear()
    with pytest.raises(DataError) as expected:
        list(data.test_dataloader())
    assert data._images.n_kept
    data.num_workers = 1 if method == "spawn" else 2
    loader = data.test_dataloader()
    data._images.clear()
    loader.multiprocessing_context = method
    batches = iter(loader)
    assert_equal(here[:2], [next(batches), next(batches)])
    before = set(active_children())
    with pytest.raises(DataError) as error:
        next(batches)
    assert before
    assert not before & set(active_children()), "they end before the error goes on"
    assert str(error.value) == str(expected.value)
    assert "z.jpeg cannot be read" in str(error.value)
