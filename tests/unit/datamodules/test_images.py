"""Pictures that threads look at before their turn: the same answers, no picture without need."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import images
from datamodules.images import ImageStore
from datamodules.picture_file import read_image
from errors import DataError


def pixels(image: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float()


class Opened:
    """Files that were opened, and by which threads."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.threads: set[str] = set()

    def __call__(self, path: Path) -> Image.Image:
        self.names.append(path.stem)
        self.threads.add(threading.current_thread().name)
        return read_image(path)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Opened:
    opened = Opened()
    monkeypatch.setattr(images, "read_image", opened)
    monkeypatch.setattr(images, "cores", lambda: 3)
    monkeypatch.setattr(images, "_AHEAD", 4)
    return opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(20):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return tmp_path


def pictures_of(folder: Path, number: int) -> list[Path]:
    """A record's own picture, and one that it shares with its neighbour."""
    return [folder / f"{number}.png", folder / f"{number + 1}.png"]


def looked_at(store: ImageStore, folder: Path, n: int, certain: int | None) -> Iterator[int]:
    with closing(store.ahead(range(18), lambda number: pictures_of(folder, number), certain)) as it:
        for number in islice(it, n):
            for path in pictures_of(folder, number):
                store.check(path)
            yield number


@pytest.mark.parametrize("in_threads", [True, False])
@pytest.mark.parametrize("certain", [None, 5])
def test_records_come_in_order_and_each_picture_is_opened_once(
    certain: int | None, in_threads: bool, folder: Path, opened: Opened
) -> None:
    store = ImageStore(pixels, in_threads=in_threads)
    assert list(looked_at(store, folder, 18, certain)) == list(range(18))
    assert sorted(map(int, opened.names)) == list(range(19))
    assert store.n_sound == store.n_kept == 19
    for number in range(19):
        path = folder / f"{number}.png"
        assert torch.equal(store(path), pixels(read_image(path)))
    assert all(name.startswith("pictures") for name in opened.threads) == in_threads
    assert not any(thread.name.startswith("pictures") for thread in threading.enumerate())


@pytest.mark.parametrize("n_certain", [1, 3, 7])
def test_no_picture_is_opened_that_might_not_be_needed(
    n_certain: int, folder: Path, opened: Opened
) -> None:
    """Up to what is certain ahead; beyond it, those of a record when it has its turn."""
    store = ImageStore(pixels, in_threads=True)
    for n_taken, _ in enumerate(looked_at(store, folder, 10, n_certain), start=1):
        assert max(map(int, opened.names)) <= max(n_certain, n_taken)
    assert set(map(int, opened.names)) == set(range(11))


def test_records_are_not_drawn_from_their_source_before_they_are_certain(folder: Path) -> None:
    drawn: list[int] = []

    def records() -> Iterator[int]:
        for number in range(18):
            drawn.append(number)
            yield number

    store = ImageStore(pixels, in_threads=True)
    ahead = store.ahead(records(), lambda number: pictures_of(folder, number), 3)
    assert [next(ahead) for _ in range(3)] == [0, 1, 2]
    assert drawn == [0, 1, 2]
    assert next(ahead) == 3
    assert drawn == [0, 1, 2, 3]
    ahead.close()


def test_a_damaged_picture_is_met_when_its_turn_comes(folder: Path, opened: Opened) -> None:
    (folder / "3.png").write_bytes(b"no picture")
    store = ImageStore(pixels, in_threads=True)
    sound: list[int] = []
    with pytest.raises(DataError, match=r"3\.png cannot be read"):
        list(looked_at(store, folder, 18, None))
    with closing(store.ahead(range(18), lambda number: pictures_of(folder, number), None)) as ahead:
        for number in ahead:
            for path in pictures_of(folder, number):
                try:
                    store.check(path)
                except DataError:
                    break
            else:
                sound.append(number)
    assert sound == [number for number in range(18) if number not in (2, 3)]
    assert opened.names.count("3") >= 2, "whoever shows it hears of it"
    assert not any(thread.name.startswith("pictures") for thread in threading.enumerate())
