"""The folder that data=hub reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from construction.data_set import PAGE, Terms, write_data_set
from construction.records import construct_records
from datamodules.picture_folder import PictureFolder
from errors import ConfigError, DataError
from tests.answered_rows import book, draw, person, with_locality
from tests.benchmark_files import options

TERMS = Terms("made of drawings", "CC0-1.0")
ROWS = [with_locality(book(n), "snow.png") for n in (1, 3)] + [person(1), person(3)]


def test_data_hub_reads_the_records_and_their_pictures(tmp_path: Path) -> None:
    constructed = construct_records(ROWS)
    pictures = PictureFolder(draw(ROWS, tmp_path / "drawn"))
    write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    source = options("hub", tmp_path / "set").read()
    assert list(source.records("test")) == [one.record for one in constructed]
    needed = {name for one in ROWS for name in one.row.pictures}
    files = (path for path in (tmp_path / "set/images").rglob("*") if path.is_file())
    assert {path.relative_to(tmp_path / "set/images").as_posix() for path in files} == needed
    for name in needed:
        assert (tmp_path / "set/images" / name).read_bytes() == (pictures.root / name).read_bytes()
    assert source.terms == {"source": "hub", "origin": "made of drawings", "licence": "CC0-1.0"}
    lines = (tmp_path / "set/test.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [one.row.id for one in ROWS]


def test_its_page_names_a_scenario_that_all_its_records_have(tmp_path: Path) -> None:
    constructed = construct_records(ROWS)
    pictures = PictureFolder(draw(ROWS, tmp_path / "drawn"))
    write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    assert "scenario=transitive" in (tmp_path / "set" / PAGE).read_text()
    bare = constructed[0].record.model_copy(update={"image": None, "image_rephrase": None})
    constructed[0] = replace(constructed[0], record=bare)
    write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    assert "scenario=unimodal" in (tmp_path / "set" / PAGE).read_text()


def test_complete_records_are_the_benchmarks_own(tmp_path: Path) -> None:
    constructed = construct_records(ROWS)[:2]
    pictures = PictureFolder(draw(ROWS, tmp_path / "drawn"))
    write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    records = options("tmke", tmp_path / "set").read().records("test")
    assert [record.subject for record in records] == ["Book 1", "Book 3"]


def test_missing_pictures_are_counted_and_nothing_is_written(tmp_path: Path) -> None:
    pictures = PictureFolder(draw(ROWS[1:], tmp_path / "drawn"))
    with pytest.raises(DataError, match=r"9 pictures, and 2 of them are not in .*book/1_seen"):
        write_data_set(tmp_path / "set", construct_records(ROWS), pictures, TERMS)
    assert not (tmp_path / "set").exists()


def test_an_earlier_folder_gives_way_and_what_is_not_ours_stays(tmp_path: Path) -> None:
    constructed = construct_records(ROWS)
    pictures = PictureFolder(draw(ROWS, tmp_path / "drawn"))
    write_data_set(tmp_path / "set", constructed[:1], pictures, TERMS)
    write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    assert len(options("hub", tmp_path / "set").read().records("test")) == 4
    (tmp_path / "set" / "train.jsonl").write_text("{}")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(ConfigError, match=r"holds what is not ours: train\.jsonl\. Move"):
        write_data_set(tmp_path / "set", constructed, pictures, TERMS)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before
