"""Data sets in Parquet: what is written is read back, record by record and picture by picture."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from configs.sources import data_options
from datamodules.__main__ import main
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.packed.columns import Columns, without_nulls
from datamodules.packed.data_set import PAGE
from datamodules.packed.export import export
from datamodules.packed.features import record_features, with_pictures
from datamodules.picture_file import read_image
from datamodules.records import Record
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from errors import ConfigError, DataError
from reporting.thumbnails import Thumbnails
from tests.disks import files_up_to
from tests.unit.datamodules.packed_cases import (
    NAMES,
    few,
    full,
    read,
    write_files,
    write_table,
)
from tests.unit.datamodules.test_datamodule import pixels, prompt_encoder

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def changed(written: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the set whose test file is changed."""

    def change(how: Callable[[pa.Table], pa.Table]) -> Path:
        copy = Path(shutil.copytree(written / "set", tmp_path / "set"))
        (file,) = (copy / "data").glob("test-*")
        pq.write_table(how(pq.read_table(file)), file)
        return copy

    return change


def test_records_and_pictures_come_back(written: Path) -> None:
    before, after = read(written / "files"), read(written / "set")
    assert after.digest() == before.digest()
    assert {s: list(r) for s, r in after.splits.items()} == {
        s: list(r) for s, r in before.splits.items()
    }
    for name in NAMES:
        packed, file = after.pictures.path(name), before.pictures.path(name)
        assert packed.open("rb").read() == file.open("rb").read()
        assert read_image(packed).tobytes() == read_image(file).tobytes()
    assert after.pictures.find("m.0/2.png") is None
    assert after.place("test", 1) == f"row 1 of the test split of the data set {written / 'set'}"


def test_batches_are_those_of_files(written: Path) -> None:
    batches = []
    for root in (written / "files", written / "set"):
        source = read(root, "data.on_error=skip")  # Car B has no picture
        data = EditDataModule(source, {"train": SCENARIOS["transitive"]}, eval_batch_size=1)
        data.connect(prompt_encoder(), ImageStore(pixels))
        data.setup()
        (batch,) = data.batches("train", [[0]])
        batches.append(batch)
    of_files, of_set = batches
    assert of_files.subjects == of_set.subjects == ("Car A",)
    assert torch.equal(of_files.rows.input_ids, of_set.rows.input_ids)
    assert of_files.rows.pixel_values.shape[0] > 4
    assert torch.equal(of_files.rows.pixel_values, of_set.rows.pixel_values)


def test_a_report_shows_its_pictures(written: Path, tmp_path: Path) -> None:
    thumbnails = Thumbnails()
    shown = thumbnails.of(NAMES[0], str(written / "set"))
    assert shown == thumbnails.of(NAMES[0], str(written / "files" / "images"))
    assert shown.key in thumbnails.by_key
    assert thumbnails.of("x.png", str(written / "set")).problem.startswith("not found under")
    copy = Path(shutil.copytree(written / "set", tmp_path / "set"))
    (copy / PAGE).write_text("---\n{\n---\n")
    assert thumbnails.of(NAMES[0], str(copy)).problem.startswith("is not shown: the first lines of")


def test_the_library_opens_it_alone(written: Path) -> None:
    sets = datasets.load_dataset(str(written / "set"))
    assert {name: len(split) for name, split in sets.items()} == {
        "train": 2, "validation": 1, "test": 3
    }  # fmt: skip
    row = sets["test"][1]
    assert row["image"].size == (8, 8)
    assert row["extra_locality"][0]["image"].size == (14, 8)
    assert row["one_hop_question"]["image"].size == (13, 8)


def test_a_picture_of_a_set_is_one_key_and_is_sent_to_other_processes(written: Path) -> None:
    source = read(written / "set")
    one = source.pictures.path(NAMES[0])
    assert one == read(written / "set").pictures.path(NAMES[0])
    assert hash(one) == hash(source.pictures.path(NAMES[0]))
    assert one != source.pictures.path(NAMES[1])
    assert str(one) == f"{NAMES[0]} of the data set {written / 'set'}"
    sent = pickle.loads(pickle.dumps(one))
    assert sent.open().read() == one.open().read()


def test_what_the_source_says_of_its_records_is_read_from_the_page(tmp_path: Path) -> None:
    source = read(write_files(tmp_path / "files"))
    said = {
        "plain_locality": True,
        "cloze": True,
        "content": "0",
        "licence": "MIT",
        "origin": "o",
        "entity_folders": True,
    }
    export(replace(source, **said), tmp_path / "set", words=["data=x", "data.root=/home/me/x"])
    back = read(tmp_path / "set", "data.allow_overlap=true")
    assert {name: getattr(back, name) for name in said} == said
    assert back.terms == {"source": "hub", "origin": "o", "licence": "MIT"}
    page = (tmp_path / "set" / PAGE).read_text()
    assert "license: mit" in page
    assert "export data=x data.root=x --output DIR" in page
    assert "/home" not in page


def test_a_licence_that_is_not_stated_is_named_as_such(written: Path) -> None:
    page = (written / "set" / PAGE).read_text()
    assert "license: unknown" in page
    assert "- Licence: not stated" in page
    assert "That is no permission" in page
    assert read(written / "set").terms["licence"] == "not stated"


def test_the_page_counts(written: Path) -> None:
    page = (written / "set" / PAGE).read_text()
    assert "| records | 2 | 1 | 3 |" in page
    assert "| maker | 1 | 0 | 2 |" in page
    assert "| locality_i_near | 1 | 0 | 2 |" in page
    assert "| same_type_entity_question | 1 | 0 | 2 |" in page
    assert "pictures, which are inside the files" in page
    assert "data=hub data.root=DIR scenario=unimodal" in page


def test_the_page_of_edits_of_pictures_names_a_scenario_that_they_have(tmp_path: Path) -> None:
    record = full("Car Z")
    record["knowledge_edit"] = {**record["knowledge_edit"], "question": None}
    root = write_files(tmp_path / "files")
    (root / "test.json").write_text(json.dumps([record]))
    export(read(root), tmp_path / "set", words=["data=x"])
    page = (tmp_path / "set" / PAGE).read_text()
    assert "scenario=unimodal" in page, "the other splits have text"
    for split in ("train", "validation"):
        (root / f"{split}.json").unlink()
    export(read(root), tmp_path / "pictures", words=["data=x"])
    assert "scenario=multimodal" in (tmp_path / "pictures" / PAGE).read_text()


def test_the_page_of_text_says_that_there_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").write_text(json.dumps(few("Car A")))
    export(read(tmp_path), tmp_path / "set", words=["data=x"])
    assert "there are no pictures" in (tmp_path / "set" / PAGE).read_text()


def test_limit_takes_the_first_records_of_each_split(tmp_path: Path) -> None:
    root = write_files(tmp_path / "files")
    words = ["data=hub", f"data.root={root}", "data.limit=1"]
    assert main(["export", *words, "--output", str(tmp_path / "set")]) == 0
    splits = {split: [r.subject for r in rs] for split, rs in read(tmp_path / "set").splits.items()}
    assert splits == {"train": ["Car A"], "val": ["Car C"], "test": ["Car D"]}


def test_files_are_parted_where_pictures_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datamodules.packed.export._GROUP_BYTES", 1)
    monkeypatch.setattr("datamodules.packed.export._FILE_BYTES", 1)
    root = write_files(tmp_path / "files")
    assert main(["export", "data=hub", f"data.root={root}", "--output", str(tmp_path / "s")]) == 0
    names = sorted(path.name for path in (tmp_path / "s" / "data").glob("test-*"))
    assert names == [f"test-0000{n}-of-00002.parquet" for n in range(2)]
    assert read(tmp_path / "s").digest() == read(root).digest()
    (tmp_path / "s" / "data" / names[1]).unlink()
    with pytest.raises(DataError, match=r"test split of .* has 2 records, and README\.md says 3"):
        read(tmp_path / "s")


TEXT = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=8)
LISTS = st.lists(st.fixed_dictionaries({"question": TEXT, "answer": TEXT}), max_size=2)


@st.composite
def records(draw: st.DrawFn) -> Record:
    """A record of which any part may be there or not."""
    value = full(draw(TEXT))
    for name in [name for name in value if name not in ("subject", "knowledge_edit")]:
        if draw(st.booleans()):
            del value[name]
    value["single_hops"], value["new_single_hops"] = draw(LISTS), draw(LISTS)
    return Record.model_validate(value)


@given(st.lists(records(), min_size=1, max_size=4), st.integers(1, 3))
def test_any_record_comes_back_from_its_cells(made: list[Record], at_once: int) -> None:
    features = dict(record_features())
    rows = [
        with_pictures(record.model_dump(), features, lambda n: {"bytes": n.encode(), "path": n})
        for record in made
    ]
    table = pa.Table.from_pylist(rows, schema=record_features().arrow_schema)
    columns = Columns.of(pa.Table.from_batches(table.to_batches(at_once)), "test")
    cells = [cell for batch in columns.rows for cell in batch.to_pylist()]
    assert [Record.model_validate(without_nulls(cell)) for cell in cells] == made
    for names, contents in columns:
        for name, content in zip(names.to_pylist(), contents.to_pylist(), strict=True):
            assert content == (None if name is None else name.encode())


def test_pictures_without_names_get_one(tmp_path: Path) -> None:
    row = {**few("Car A"), "image": {"bytes": b"abc", "path": None}}
    root = write_table(tmp_path / "set", [few("Car B"), row])
    source = read(root)
    name = source.records("test")[1].image
    assert name is not None
    assert source.pictures.path(name).open().read() == b"abc"


def test_pictures_that_are_only_named_lie_in_a_folder(written: Path, tmp_path: Path) -> None:
    row = {**few("Car A"), "image": {"bytes": None, "path": NAMES[1]}}
    root = write_table(tmp_path / "set", [row])
    folder = written / "files" / "images"
    source = read(root, f"data.image_root={folder}")
    assert source.pictures.find(NAMES[1]) == folder / NAMES[1]
    with pytest.raises(DataError, match=r"1 of them is not in the data set .*m\.1/1\.png"):
        read(root).pictures.check([NAMES[1]], "the test")


class TestWhatIsRefused:
    def test_an_output_that_holds_something(
        self, written: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["data=hub", f"data.root={written / 'files'}"]
        before = sorted((written / "set").rglob("*"))
        assert main(["export", *words, "--output", str(written / "set")]) == 2
        assert "is there already, and nothing is overwritten" in capsys.readouterr().err
        assert sorted((written / "set").rglob("*")) == before

    def test_missing_pictures_unless_their_names_are_enough(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        root = write_files(tmp_path / "files")
        (root / "images" / NAMES[6]).unlink()
        words = ["data=hub", f"data.root={root}", "--output", str(tmp_path / "set")]
        assert main(["export", *words]) == 2
        assert "1 of them is not in" in capsys.readouterr().err
        assert not (tmp_path / "set").exists()
        assert main(["export", *words, "--allow-missing"]) == 0
        page = (tmp_path / "set" / PAGE).read_text()
        assert "1 pictures are named and not here" in page
        assert "pictures, not all of which are inside the files" in page
        assert "--output DIR --allow-missing" in page
        back = read(tmp_path / "set")
        assert back.digest() == read(root).digest()
        assert (back.pictures.find(NAMES[5]), back.pictures.find(NAMES[6])) == (
            back.pictures.path(NAMES[5]), None
        )  # fmt: skip

    def test_two_sources_in_one_set(self, written: Path, tmp_path: Path) -> None:
        words = ["data=hub", f"data.root={written / 'files'}", "data.train=world"]
        with pytest.raises(ConfigError, match=r"a data set has one source"):
            export(joined(words), tmp_path / "set", words=words)

    def test_a_full_disk(
        self, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        words = ["data=hub", f"data.root={written / 'files'}"]
        with files_up_to(4000):
            assert main(["export", *words, "--output", str(tmp_path / "set")]) == 2
        assert "cannot be written" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []

    def test_a_full_disk_of_the_cache(self, written: Path) -> None:
        with files_up_to(2000), pytest.raises(DataError, match=r"HF_DATASETS_CACHE names another"):
            read(written / "set")

    def test_a_folder_without_a_set(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"holds no data set"):
            read(tmp_path)

    def test_a_missing_split(self, written: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(written / "set", tmp_path / "set"))
        (file,) = (copy / "data").glob("test-*")
        file.unlink()
        (copy / PAGE).unlink()
        with pytest.raises(DataError, match=r"test split .* no records.* splits train, val.*Add"):
            read(copy).records("test")

    def test_a_file_that_the_page_counts_is_missing(self, written: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(written / "set", tmp_path / "set"))
        (file,) = (copy / "data").glob("test-*")
        file.unlink()
        with pytest.raises(
            DataError, match=r"names data/test-\* for the test split, and no such file"
        ):
            read(copy)

    def test_a_column_of_another_name(self, changed: Callable[..., Path]) -> None:
        root = changed(lambda table: table.rename_columns({"subject": "subjects"}))
        with pytest.raises(
            DataError, match=r"test-0.* has no column 'subject', and a column 'subjects'\. Ren"
        ):
            read(root)

    def test_a_column_that_every_record_needs(self, changed: Callable[..., Path]) -> None:
        root = changed(lambda table: table.drop_columns(["knowledge_edit"]))
        with pytest.raises(DataError, match=r"no column 'knowledge_edit', without which"):
            read(root)

    def test_a_damaged_file(self, written: Path, tmp_path: Path) -> None:
        copy = Path(shutil.copytree(written / "set", tmp_path / "set"))
        (file,) = (copy / "data").glob("test-*")
        file.write_bytes(file.read_bytes()[:-100])
        with pytest.raises(
            DataError, match=r"test-0.*parquet is no Parquet file that can be read .*Fetch it"
        ):
            read(copy)

    def test_a_damaged_picture(self, tmp_path: Path) -> None:
        row = {**few("Car A"), "image": {"bytes": b"no picture", "path": "a/b.png"}}
        source = read(write_table(tmp_path / "set", [row]))
        with pytest.raises(DataError, match=r"picture a/b\.png of the data set .* is no picture"):
            read_image(source.pictures.path("a/b.png"))

    @pytest.mark.parametrize("other", [b"aa", b"b"])
    def test_two_pictures_of_one_name(self, tmp_path: Path, other: bytes) -> None:
        rows = [
            {**few(f"Car {n}"), "image": {"bytes": content, "path": "1.png"}}
            for n, content in enumerate((b"a", b"a", other))
        ]
        said = rf"two pictures of the name '1\.png', of 1 and of {len(other)} bytes"
        with pytest.raises(DataError, match=said):
            read(write_table(tmp_path / "set", rows))

    def test_rows_that_are_no_records(self, tmp_path: Path) -> None:
        empty: dict[str, Any] = {"subject": "Car B"}
        root = write_table(tmp_path / "set", [few("Car A"), empty])
        with pytest.raises(DataError, match=r"row 1 of the test split of .*knowledge_edit: Field"):
            read(root)
        assert [left.subject for left in read(root, "data.on_error=skip").left_out["test"]] == [
            "Car B"
        ]


def joined(words: list[str]) -> RecordSource:
    """A source whose training records are another's."""
    source = data_options(words[:2]).open()
    return replace(source, training=source)
