"""Data sets of a hub, from the stand-in of one on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import ConfigError, DataError
from tests.hub_stand_in import HubStandIn, serving
from tests.unit.datamodules.packed_cases import NAMES, read

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    with serving(tmp_path / "hub", monkeypatch) as stand_in:
        yield stand_in


@pytest.mark.parametrize("form", ["set", "files"])
def test_a_data_set_of_the_hub_is_the_folder_that_was_sent(
    hub: HubStandIn, written: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = written / form
    commit = hub.put("alice/edits", content(folder))
    source = read("alice/edits")
    assert source.digest() == read(folder).digest()
    picture = source.pictures.path(NAMES[0])
    assert picture.open("rb").read() == (written / "files/images" / NAMES[0]).read_bytes()
    hub.put("alice/edits", {"train.jsonl": b"{}"})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    again = read("hub:alice/edits", f"data.revision={commit}")
    assert again.digest() == source.digest()


def test_what_is_not_there_is_said(hub: HubStandIn, written: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root=alice/none: .* no such data set"):
        read("alice/none")
    hub.put("alice/edits", content(written / "set"))
    with pytest.raises(DataError, match=r"data\.revision=v9: .*no such revision"):
        read("alice/edits", "data.revision=v9")


def test_offline() -> None:
    with pytest.raises(DataError, match=r"data\.root=alice/edits: no such folder is here, and"):
        read("alice/edits")


def test_a_folder_has_no_revision(written: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.revision=v1: .* leave data\.revision out"):
        read(written / "set", "data.revision=v1")


def content(folder: Path) -> dict[str, bytes]:
    """Name -> content of the files of a folder."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
