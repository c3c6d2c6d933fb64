"""Names of pictures: composed and decomposed letters, links, folders that cannot be listed."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from PIL import Image

from datamodules.picture_folder import PictureFolder
from datamodules.sources.tmke import read_tmke
from datamodules.world import World
from reporting.thumbnails import Thumbnails
from tests.unit.datamodules.test_datamodule import batches, make, root
from tests.unit.datamodules.test_sources import other, write
from tests.unit.datamodules.test_world_load import towns
from tests.unit.datamodules.test_world_load import write as write_world

__all__ = ["root"]
Form = Literal["NFC", "NFD"]
NAME = "Caf\u00e9 \u1ed9/Z\u00fcrich \u00e5.png"
forms = pytest.mark.parametrize(("typed", "on_disk"), [("NFC", "NFD"), ("NFD", "NFC")])


def name_in(form: Form) -> str:
    return unicodedata.normalize(form, NAME)


def draw(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (8, 8), "red").save(path)
    return path


@forms
def test_a_name_finds_its_file_in_the_other_form(
    tmp_path: Path, typed: Form, on_disk: Form
) -> None:
    there = draw(tmp_path / name_in(on_disk))
    folder = PictureFolder(tmp_path)
    assert folder.find(name_in(typed)) == there
    exact = draw(tmp_path / name_in(typed))  # the exact name comes first, where both are there
    assert PictureFolder(tmp_path).find(name_in(typed)) == exact
    assert name_in(typed) in PictureFolder(tmp_path)
    assert PictureFolder(tmp_path).find(name_in(on_disk)) == there


@forms
def test_everything_that_opens_a_picture_finds_it(
    root: Path, tmp_path: Path, typed: Form, on_disk: Form
) -> None:
    """Records, a report and a world folder."""
    draw(root / "images" / name_in(on_disk))
    record = other("Car A")
    record["image"] = name_in(typed)
    write(root / "t.json", record)
    (batch,) = batches(make(read_tmke(root), "multimodal"))
    assert batch.rows.pixel_values is not None
    assert batch.rows.pixel_values[batch.rows.image_index[batch.edit_rows[0]]][0].min() == 1
    thumbnails = Thumbnails()
    assert thumbnails.of(name_in(typed), str(root / "images")).key is not None

    folder = tmp_path / "world"
    folder.mkdir()
    entities = towns()
    write_world(folder, entities)
    entities[0]["images"]["a"] = name_in(typed)
    (folder / "entities.json").write_text(json.dumps(entities))
    there = draw(folder / name_in(on_disk))
    world = World.load(folder)
    assert world.entities["Town 0"].images["a"] == there
    assert world.digest


def test_what_is_no_file_is_found_nowhere(tmp_path: Path) -> None:
    draw(tmp_path / "a" / "b.png")
    (tmp_path / "gone.png").symlink_to("nothing.png")
    (tmp_path / "ring.png").symlink_to("ring.png")
    (tmp_path / "link.png").symlink_to("a/b.png")
    folder = PictureFolder(tmp_path)
    assert folder.find("link.png") == tmp_path / "link.png"
    assert folder.find("a/b.png") == tmp_path / "a" / "b.png"
    for name in ("a", "", ".", "gone.png", "ring.png", "b.png", "a/b.png/c.png", "\0", "x" * 999):
        assert folder.find(name) is None, name
        assert folder.path(name) == tmp_path / name
    assert PictureFolder(tmp_path / "nowhere").find("a.png") is None
    assert "a.png" not in PictureFolder(tmp_path / "nowhere")
    assert folder.find("late.png") is None
    draw(tmp_path / "late.png")
    assert folder.find("late.png") is not None, "the listing is older than the file"


def test_a_folder_is_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [draw(tmp_path / f"{number}.png").name for number in range(50)]
    folder = PictureFolder(tmp_path)
    folder.check(names, "this test")
    monkeypatch.setattr("os.scandir", None)
    monkeypatch.setattr("os.path.isfile", None)
    folder.check(names, "this test")
