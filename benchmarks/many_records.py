"""What 100,000 records with pictures take of the memory: written, read, checked, served.

    python -m benchmarks.many_records [RECORDS] [FOLDER]

Made-up records of the benchmark's size, each with two pictures of its own and three of others, are
exported as Parquet and read back by data=hub, in a process each. Then EditDataModule makes the rows
of all of them, as before a training, and serves some steps in a random order, without and with
processes that prepare batches. The target is 1.5 GB of a process's own memory. What is mapped from
files beside that is given back whenever another process needs room.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import numpy as np
from PIL import Image

from datamodules.images import ImageStore
from datamodules.pictures import PackedPicture, PictureFile
from datamodules.record_table import RecordTable
from datamodules.records import Record
from datamodules.source import RecordSource

TARGET_GB = 1.5
SIDE, DRAWINGS = 224, 64  # pixels of a picture's side; pictures that are really drawn
PIXELS = 2**29  # bytes of them that are kept, half of what a run keeps
STEPS, BATCH, VALIDATION = 200, 32, 100
SPARED = 100  # pictures of which one is opened in the check before the first step
_PROBES = {"generality_s", "locality_t_far", "locality_i_far"}  # what most editors train with
_EVERY = 0.2  # seconds between two looks at the memory


def main(n_records: int = 100_000, folder: str | None = None) -> None:
    """Write the records, read them and print what it took."""
    with TemporaryDirectory(dir=folder) as temporary:
        root = Path(temporary)
        places = {name: str(root) for name in ("TMPDIR", "HF_HOME", "HF_DATASETS_CACHE")}
        for part in ("write", "serve"):
            words = [sys.executable, "-m", "benchmarks.many_records", part, str(root / "set")]
            subprocess.run([*words, str(n_records)], check=True, env=os.environ | places)
            size = sum(file.stat().st_size for file in (root / "set").rglob("*.parquet"))
            print(f"  the data set has {size / 1e9:.2f} GB", flush=True)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")


def write(root: Path, n_records: int) -> None:
    """Exports made-up records."""
    from datamodules.packed.export import export

    with measured(f"{n_records:,} records made"):
        records = RecordTable.of(make_records(n_records))
    source = RecordSource(
        name="tmke",
        image_root=root,
        splits={"train": records[VALIDATION:], "val": records[:VALIDATION]},
        plain_locality=True,
        filter_known="none",
        packed=MadePictures(root),
    )
    with measured("exported as Parquet"):
        export(source, root, words=["data=tmke"])


def serve(root: Path, n_records: int) -> None:
    """Reads, checks and serves them."""
    from datamodules.scenarios import training_scenario
    from runner.assembly import make_data, make_encoder, open_processor

    words = ["editor=none", "model=llava_tiny", "data=hub", f"data.root={root}", "metrics=default"]
    with measured("libraries and options"):
        import datasets  # noqa: F401

        from configs.check import load_config
        from configs.schema import EvaluateConfig

        cfg = load_config("evaluate", [*words, "scenario=multimodal"])
        assert isinstance(cfg, EvaluateConfig)
    with measured("copied to the cache, validated"):
        source = cfg.data.open()
    del source
    with measured("read again, from the cache"):
        source = cfg.data.open()
    assert len(source.records("train")) == n_records - VALIDATION
    with measured("names of pictures checked"):
        scenario = training_scenario("multimodal", "image_text", _PROBES)
        data = make_data(cfg, source, {"train": scenario}, batch_size=BATCH)
    processor = open_processor(cfg.model)
    data.connect(make_encoder(processor, cfg.data.prompt), Sparing(processor.pixels, room=PIXELS))
    with measured("all rows made, some pictures decoded"):
        data.setup()
    for data.num_workers in (0, 2):
        with measured(f"{STEPS} steps of {BATCH} edits, {data.num_workers} processes"):
            served = [len(batch.edit_ids) for batch in islice(data.train_dataloader(), STEPS)]
        assert served
        assert set(served) == {BATCH}


def make_records(n_records: int) -> Iterator[Record]:
    """Records of the benchmark's size; their pictures are named after their number."""
    for number in range(n_records):
        near = (number + 1) % n_records
        kind = f"subject {number:06}, a place of the {number % 97} th district of the country"
        ask = f"Which of the {number % 1009} offices of the region has the town {kind} in its care?"
        about = "Which of the offices of the region has the town in the image in its care?"
        new, true = f"Office {number * 7 % 4096}", f"Office {number * 11 % 4096}"
        both = {"answer_new": new, "answer_true": true}
        yield Record.model_validate(
            {
                "subject": kind, "entity_type": "town", "relation": f"office {number % 50}",
                "knowledge_edit": {"question": ask, "image_question": about, **both},
                "rephrase_question": {
                    "rephrase_question": f"Say it in other words: {ask}",
                    "rephrase_image_question": f"Say it in other words: {about}", **both,
                },
                "one_hop_question": {
                    "one_hop_question": f"Who leads the office that has {kind} in its care?",
                    "one_hop_image_question": "Who leads the office of the town in the image?",
                    **both,
                },
                "same_type_entity_question": {
                    "same_type_entity": f"Town {near}", "image_question": about, "answer": true,
                    "question": f"Which office has the town {near} in its care?",
                },
                "diff_type_entity_question": {
                    "diff_type_entity": f"River {near}", "image_question": about,
                    "answer": "Sorry, there is no town in the image",
                    "question": f"Which office has the river {near} in its care?",
                },
                "locality_question": {"question": f"Who wrote book {number}?", "answer": "Ada"},
                "image_locality_question": {"question": "What is shown?", "answer": "a river"},
                "image": f"p{number}/0.jpg", "image_rephrase": f"p{number}/1.jpg",
                "same_entity_image": f"p{near}/0.jpg", "diff_entity_image": f"p{near}/1.jpg",
                "locality_image": f"p{near}/0.jpg",
            }
        )  # fmt: skip


class Sparing(ImageStore):
    """Opens few of the pictures before their turn: more take more time, and no more memory."""

    _n_asked = 0

    def check(self, path: PictureFile) -> None:
        """Makes sure of one in `SPARED` pictures."""
        self._n_asked += 1
        if self._n_asked % SPARED == 0:
            super().check(path)


@dataclass
class MadePictures:
    """Photographs under any name: a few are drawn, and each name has its own bytes."""

    root: Path

    def __post_init__(self) -> None:
        self._drawn = list(map(_photograph, range(DRAWINGS)))

    def find(self, name: str) -> PackedPicture:
        """The picture of a name."""
        return PackedPicture(self.root, name, self)

    path = find

    def check(self, names: Any, why: str) -> None:
        """All are there."""

    def read(self, name: str) -> IO[bytes]:
        """What follows the end of a JPEG, here its name, is no part of the picture."""
        return BytesIO(self._drawn[hash(name) % DRAWINGS] + name.encode())


def _photograph(number: int) -> bytes:
    draw = np.random.default_rng(number)
    coarse = draw.integers(0, 256, (14, 14, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    levels = np.asarray(picture, np.int16) + draw.integers(-12, 13, (SIDE, SIDE, 3))
    memory = BytesIO()
    Image.fromarray(levels.clip(0, 255).astype(np.uint8)).save(memory, "JPEG", quality=85)
    return memory.getvalue()


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Prints how long a part took and the most memory that this process had meanwhile."""
    peaks, done = memory(), threading.Event()

    def look() -> None:
        while not done.wait(_EVERY):
            for name, size in memory().items():
                peaks[name] = max(peaks[name], size)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    started = time.perf_counter()
    yield
    seconds = time.perf_counter() - started
    done.set()
    looking.join()
    sizes = "".join(f"   {name} {size / 1e9:5.2f} GB" for name, size in peaks.items())
    much = peaks["own"] / 1e9 > TARGET_GB
    told = f"   more than the target of {TARGET_GB} GB" if much else ""
    print(f"{what:42}{seconds:6.0f} s{sizes}{told}", flush=True)


def memory() -> dict[str, int]:
    """Bytes of this process: its own, shared with its children, and pages of mapped files."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as file:
        lines = (line.split() for line in file if line.endswith("kB\n"))
        sizes = {line[0].rstrip(":"): int(line[1]) * 1024 for line in lines}
    with open("/proc/self/status", encoding="ascii") as file:
        (shared,) = (int(line.split()[1]) * 1024 for line in file if line.startswith("RssShmem"))
    own = sizes["Anonymous"]
    mapped = max(0, sizes["Rss"] - own - shared)
    return {"own": own, "shared pixels": shared, "mapped files": mapped}


if __name__ == "__main__":
    if sys.argv[1:2] in (["write"], ["serve"]):
        {"write": write, "serve": serve}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 100_000, *sys.argv[2:3])
