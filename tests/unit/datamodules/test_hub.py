"""data=hub: folders with a file for each split, in the project's own form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from configs.check import load_config
from datamodules.source import RecordSource
from errors import DataError
from tests.unit.datamodules.test_sources import RECORD, other


def write_lines(path: Path, *records: dict[str, Any]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))


def read(root: Path, *words: str) -> RecordSource:
    command = [f"data.root={root}", "data=hub", "model=llava_tiny", "editor=ft"]
    return load_config("evaluate", [*command, "scenario=unimodal", *words]).data.read()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_lines(tmp_path / "train.jsonl", other("Car A"), other("Car B"))
    write_lines(tmp_path / "validation.jsonl", other("Car C"))
    (tmp_path / "test.json").write_text(json.dumps([RECORD, other("Car D")]))
    return tmp_path


def test_each_file_is_a_split(folder: Path) -> None:
    source = read(folder)
    subjects = {split: [r.subject for r in records] for split, records in source.splits.items()}
    assert subjects == {
        "train": ["Car A", "Car B"], "val": ["Car C"], "test": ["Holden Caprice", "Car D"]
    }  # fmt: skip
    assert source.place("train", 1) == f"record 1 (line 2) of {folder / 'train.jsonl'}"


def test_pictures_lie_in_images(folder: Path) -> None:
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "a_0.jpeg")
    assert read(folder).pictures.find("a_0.jpeg") == folder / "images" / "a_0.jpeg"
    elsewhere = read(folder, f"data.image_root={folder}")
    assert elsewhere.pictures.find("a_0.jpeg") is None


def test_a_tenth_of_the_training_subjects_validates_where_no_file_does(folder: Path) -> None:
    (folder / "validation.jsonl").unlink()
    write_lines(folder / "train.jsonl", *(other(f"Car {n}0") for n in range(20)))
    splits = read(folder).splits
    assert (len(splits["train"]), len(splits["val"])) == (18, 2)


def test_records_need_not_have_what_the_benchmark_has(folder: Path) -> None:
    few = {"subject": "Car E", "knowledge_edit": RECORD["knowledge_edit"]}
    write_lines(folder / "test.jsonl", few)
    (folder / "test.json").unlink()
    (record,) = read(folder).records("test")
    assert record.one_hop_question is None


def test_what_is_wrong_is_said_with_file_line_and_field(folder: Path) -> None:
    broken = {**other("Car E"), "image": "/tmp/x.png"}
    write_lines(folder / "validation.jsonl", other("Car C"), broken)
    with pytest.raises(DataError, match=r"record 1 \(line 2\) of .*validation\.jsonl .*image: a"):
        read(folder)
    source = read(folder, "data.on_error=skip")
    assert len(source.splits["val"]) == 1
    assert [left.subject for left in source.left_out["val"]] == ["Car E"]


def test_a_folder_without_splits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=.*holds no data set: .*test\.jsonl"):
        read(tmp_path)


def test_two_files_of_one_split_are_refused(folder: Path) -> None:
    write_lines(folder / "dev.jsonl", other("Car E"))
    with pytest.raises(DataError, match=r"validation\.jsonl and dev\.jsonl, .* the val split"):
        read(folder)


def test_a_missing_split_is_named_when_it_is_needed(folder: Path) -> None:
    (folder / "test.json").unlink()
    source = read(folder)
    with pytest.raises(DataError, match=r"test split of data=hub has no records.*train\.jsonl"):
        source.records("test")
