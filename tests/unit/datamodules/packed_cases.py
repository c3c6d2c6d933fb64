"""Small data sets in Parquet for tests: records with pictures in every field that names one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from configs.check import load_config
from datamodules.packed.features import record_features
from datamodules.source import RecordSource
from tests.unit.datamodules.test_sources import RECORD, other

COMMAND = ("model=llava_tiny", "editor=ft", "scenario=unimodal")
NAMES = ("m.0/1.png", "m.1/1.png", "m.2/1.png", "m.3/1.png", "m.4/1.png", "m.5/1.png", "m.6/1.png")


def picture_files(folder: Path) -> Path:
    """Pictures of one name in several folders."""
    for number, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True)
        Image.new("RGB", (8 + number, 8), (40 * number % 256, 90, 10)).save(folder / name)
    return folder


def full(subject: str) -> dict[str, Any]:
    """A record with every field that a picture may stand in, other names and a chain of facts."""
    record = other(subject)
    shown = (
        "image", "image_rephrase", "same_entity_image", "diff_entity_image", "locality_image"
    )  # fmt: skip
    record |= dict(zip(shown, NAMES, strict=False))
    record["one_hop_question"]["image"] = NAMES[5]
    record["knowledge_edit"]["answer_new_aliases"] = ["Foxconn", "鴻海"]
    record["extra_locality"] = [
        {"kind": "near", "question": "Who?", "answer": "Ford", "image": NAMES[6],
         "image_question": "Who made this?"},
        {"kind": "subject", "question": "Where?", "answer": "Perth"},
    ]  # fmt: skip
    record["multimodal_hops"] = [{"question": "What?", "answer": subject, "image": NAMES[0]}]
    record["relation"], record["drawn"] = "maker", ["same_type_entity_question"]
    return record


def few(subject: str) -> dict[str, Any]:
    """A record with nothing that may be missing."""
    return {"subject": subject, "knowledge_edit": RECORD["knowledge_edit"], "is_cloze": True}


def write_files(folder: Path) -> Path:
    """A folder of data=tmke-like records by split, with their pictures."""
    picture_files(folder / "images")
    splits = {
        "train": [full("Car A"), few("Car B")], "validation": [few("Car C")],
        "test": [few("Car D"), full("Car E"), full("Car F")],
    }  # fmt: skip
    for name, records in splits.items():
        (folder / f"{name}.json").write_text(json.dumps(records))
    return folder


def read(root: Path | str, *words: str) -> RecordSource:
    """The records of data=hub."""
    return load_config("evaluate", ["data=hub", f"data.root={root}", *COMMAND, *words]).data.read()


def write_table(root: Path, rows: list[dict[str, Any]], name: str = "test") -> Path:
    """A data set of one file, of rows as its cells are."""
    (root / "data").mkdir(parents=True)
    table = pa.Table.from_pylist(rows, schema=record_features().arrow_schema)
    pq.write_table(table, root / "data" / f"{name}-00000-of-00001.parquet")
    return root
