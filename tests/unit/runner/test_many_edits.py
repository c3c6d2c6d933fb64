"""Too few edits, and contradicting ones, are refused before a model loads, where that is known."""

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
from runner.many_edits import check_many_edits
from tests.builders import llava
from tests.parity.test_slow_reference import IMAGE_ID, TOKENIZER, encoder, pixels
from tests.unit.lightning_modules.test_many_edits import contradicting


def config(*words: str, contradictions: str = "error") -> EvaluateConfig:
    asked = f"protocol.contradictions={contradictions}"
    found = load_config("evaluate", ["editor=ft", asked, *words])
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
            check_many_edits(config(*words), checked(source))


def test_edits_of_two_updates_are_not(source: RecordSource) -> None:
    for words in (["protocol=batch", "protocol.n=1"], ["protocol=sequential", "protocol.n=4"]):
        check_many_edits(config(*words), checked(source))


def test_where_the_model_says_which_records_are_edits_it_is_asked_first(
    source: RecordSource,
) -> None:
    asked = checked(replace(source, filter_known="text"))
    check_many_edits(config("protocol=batch", "protocol.n=4"), asked)


def test_more_edits_than_records_are_refused_by_the_records_alone(source: RecordSource) -> None:
    complaint = r"protocol\.n=2,5 makes 5 edits, and the test split of data=\S+ has 4\. Give no"
    for protocol in ("batch", "sequential"):
        cfg = config(f"protocol={protocol}", "protocol.n=2,5", contradictions="last")
        # What the unedited model does not know can only make them fewer.
        for of in (source, replace(source, filter_known="text")):
            with pytest.raises(ConfigError, match=complaint):
                check_many_edits(cfg, checked(of))
    single = load_config("evaluate", ["editor=ft"])
    assert isinstance(single, EvaluateConfig)
    check_many_edits(single, checked(source))
