"""Workers of a loader while signals are sent to everyone."""

from __future__ import annotations

import logging
import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import fields
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter
from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.order import EditLoader, EditOrder
from datamodules.pixel_slab import KEY_BYTES
from datamodules.scenarios import SCENARIOS
from datamodules.sources.tmke import read_tmke
from datamodules.workers import automatic_workers
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


def test_its_own_process_ends_it(batches: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Seconds between two looks at whether a worker that says nothing still lives: 5.
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.1,))
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
    data.connect(prompt_encoder(), ImageStore(process, in_threads=True))
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
    """However they are started; and what they decode is there for the run's own process too.

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
    data._images(root / "images" / "a_0.jpeg")
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
    shares = data._images._kept is not None and data._images._kept.is_shared
    assert (data._images.n_kept > 1) == shares


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Cores and bytes of shared memory that a machine has."""
    has = {"cores": 8, "shared": 2**30}
    monkeypatch.setattr("datamodules.workers._SHARED_MEMORY", "/")
    monkeypatch.setattr("os.sched_getaffinity", lambda _: range(has["cores"]), raising=False)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=has["shared"]))
    return has


def pictures(n: int, n_kept: int, picture_bytes: int = 100) -> Any:
    return SimpleNamespace(n_sound=n, n_kept=n_kept, picture_bytes=picture_bytes)


def test_processes_are_started_for_pictures_that_are_decoded_again(
    machine: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert automatic_workers(pictures(0, 0), 32) == 0
    assert not caplog.messages, "nothing is said of pictures where there are none"
    assert automatic_workers(pictures(9, 9), 32) == 0
    assert "the pixels of all 9 are kept" in caplog.messages[-1]
    assert automatic_workers(pictures(10, 9), 32) == 4
    assert caplog.messages[-1].endswith("auto): 4; the pixels of 9 of 10 pictures are kept")


@pytest.mark.parametrize(("n_cores", "n_siblings", "expected"), [
    (1, 1, 0), (2, 1, 1), (4, 1, 3), (5, 1, 4), (64, 1, 4), (8, 2, 3), (8, 8, 0), (2, 4, 0),
])  # fmt: skip
def test_no_more_processes_than_free_cores(
    n_cores: int, n_siblings: int, expected: int, machine: dict[str, int]
) -> None:
    machine["cores"] = n_cores
    assert automatic_workers(pictures(10, 9), 32, n_siblings) == expected


@pytest.mark.parametrize(("room", "expected"), [(0, 0), (2, 0), (3, 1), (6, 2), (8, 3), (9, 4)])
def test_no_more_batches_than_the_shared_memory_holds(
    room: int, expected: int, machine: dict[str, int], caplog: pytest.LogCaptureFixture
) -> None:
    """Two are prepared ahead by each process, and one is in use."""
    caplog.set_level(logging.INFO)
    machine["shared"] = room * 2 * 8 * 100
    assert automatic_workers(pictures(99, 9), 2) == expected
    machine["shared"] *= 2
    assert automatic_workers(pictures(99, 9), 2, n_siblings=2) == min(expected, 3)
    assert ("as batches have room in /" in caplog.messages[0]) == (expected < 4)


@pytest.mark.usefixtures("machine")
def test_batches_are_the_same_whoever_decodes_the_pictures(data: EditDataModule) -> None:
    """Where not all pixels are kept, processes are started, and share the first ones."""
    data.num_workers = "auto"
    loader = data.test_dataloader()
    assert loader.num_workers == 0, "all pixels are kept"
    here = [list(loader), list(data.train_dataloader())]
    images = data._images
    assert images is not None
    few = ImageStore(images._process, room=2 * (3 * 8 * 8 * 4 + KEY_BYTES))
    data.connect(prompt_encoder(), few)
    data._edits.clear()
    for usable in data._usable.values():
        usable.tokens.clear()
    data.setup()
    assert (few.n_sound, few.n_kept) == (6, 2)
    loaders = data.test_dataloader(), data.train_dataloader()
    assert [loader.num_workers for loader in loaders] == [4, 4]
    for expected, loader in zip(here, loaders, strict=True):
        assert_equal(expected, list(loader))
    assert few.n_kept == 2


def test_a_gpu_fetches_batches_from_pinned_memory(
    data: EditDataModule, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not data.test_dataloader().pin_memory
    for device in ("cpu", "cuda"):
        strategy = SimpleNamespace(root_device=torch.device(device))
        data.trainer = SimpleNamespace(num_devices=1, strategy=strategy)  # type: ignore[assignment]
        for loader in (data.test_dataloader(), data.train_dataloader()):
            assert loader.pin_memory == (device == "cuda")
    data.trainer = None
    batch = next(iter(data.test_dataloader()))
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        pinned.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    again = batch.pin_memory()
    assert_equal([batch], [again])
    assert batch.pictures is not None
    assert batch.pictures.rows is not None
    for rows in (batch.rows, batch.pictures.rows):
        for field in fields(Rows):
            value = getattr(rows, field.name)
            assert not isinstance(value, torch.Tensor) or any(value is one for one in pinned)
