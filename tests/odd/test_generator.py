"""The odd files are what they say, so that a test of a reader tests what its name says."""

from __future__ import annotations

from pathlib import Path

from tests.odd.json_files import all_json
from tests.odd.pictures import all_pictures


def test_every_picture_is_written_under_a_name_of_its_own(tmp_path: Path) -> None:
    pictures = all_pictures()
    assert len({picture.file for picture in pictures.values()}) == len(pictures) > 140
    for picture in pictures.values():
        if picture.is_heavy:
            continue
        path = tmp_path / picture.file
        picture.write(path)
        assert path.is_symlink() or path.exists(), picture.name


def test_every_json_file_is_written(tmp_path: Path) -> None:
    contents = set()
    for number, (name, odd) in enumerate(all_json().items()):
        (root := tmp_path / str(number)).mkdir()
        path = odd.write(root)
        assert [entry.name for entry in root.iterdir()] == [path.name], name
        contents.add(path.read_bytes())
    assert len(contents) >= len(all_json()) - 4, "cases that are the same file"
