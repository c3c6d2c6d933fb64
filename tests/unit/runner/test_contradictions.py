"""Edits that contradict each other are refused before a model loads, where that can be known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from configs.check import load_config
from configs.schema import EvaluateConfig
from datamodules.datamodule import EditDataModule
from datamodules.images import ImageStore
from datamodules.scenarios import SCENARIOS
from datamodules.source import RecordSource
from errors import ConfigError
from runner.contradictions import check_contradictions
from tests.builders import llava
from tests.parity.test_slow_reference import IMAGE_ID, TOKENIZER, encoder, pixels
from tests.unit.lightning_modules.test_many_edits import contradicting


def config(*words: str) -> EvaluateConfig:
    found = load_config("evaluate", ["editor=ft", "protocol.contradictions=error", *words])
    assert isinstance(found, EvaluateConfig)
    return found


@pytest.fixture
def source(tmp_path: Path) -> RecordSource:
    return contradicting(tmp_path)


def checked(source: RecordSource) -> EditDataModule:
    """The data as they are before a model is loaded: not set up."""
    data = EditDataModule(source, {"test": SCENARIOS["unimodal"]})
    model = llava(vocabulary=len(TOKENIZER), image_token=IMAGE_ID)
    data.connect(encoder(model), ImageStore(pixels))
    data.check()
    return data


def test_they_are_refused_by_the_records_alone(source: RecordSource) -> None:
    for words in (["protocol=batch", "protocol.n=1,4"],
                  ["protocol=sequential", "protocol.turn=2", "protocol.n=4"]):  # fmt: skip
        with pytest.raises(ConfigError, match=r"edit 0 \(.*test\.json.*'Ford'\) and edit 1"):
            check_contradictions(config(*words), checked(source))


def test_edits_of_two_updates_are_not(source: RecordSource) -> None:
    for words in (["protocol=batch", "protocol.n=1"], ["protocol=sequential", "protocol.n=4"]):
        check_contradictions(config(*words), checked(source))


def test_where_the_model_says_which_records_are_edits_it_is_asked_first(
    source: RecordSource,
) -> None:
    asked = checked(replace(source, filter_known="text"))
    check_contradictions(config("protocol=batch", "protocol.n=4"), asked)
