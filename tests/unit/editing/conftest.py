"""A base model that ships and an edit of it, which all tests of this folder share."""

from __future__ import annotations

import pytest

from configs.check import load_config
from datamodules.records import Record
from datamodules.source import RecordSource
from editing import open_editor, open_model
from editing.edit import FactEdit
from editing.editor import FactEditor
from editing.model import OpenedModel
from tests.edit_cases import teach


@pytest.fixture(scope="session")
def model() -> OpenedModel:
    return open_model("llava_tiny", device="cpu")


@pytest.fixture(scope="session", autouse=True)
def _world(default_place: None) -> None:
    """Edits are of the default world, which is drawn once for all tests."""


@pytest.fixture(scope="session")
def source() -> RecordSource:
    return load_config("evaluate", ["editor=none", "experiment=demo"]).data.read()


@pytest.fixture(scope="session")
def record(source: RecordSource) -> Record:
    return source.records("test")[0]


@pytest.fixture(scope="session")
def fine_tuning(model: OpenedModel) -> FactEditor:
    return open_editor("ft", model)


@pytest.fixture(scope="session")
def edit(fine_tuning: FactEditor, record: Record) -> FactEdit:
    return teach(fine_tuning, record)
