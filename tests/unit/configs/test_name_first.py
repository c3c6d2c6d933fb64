"""What `evaluate.name_first` is refused with, before anything loads."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest

from configs.check import load_config
from configs.schema import EvaluateConfig
from errors import ConfigError

DEMO = ("experiment=demo", "editor=ft", "evaluate.name_first=true")


def loaded(*words: str) -> EvaluateConfig:
    return cast("EvaluateConfig", load_config("evaluate", list(words)))


@pytest.mark.parametrize("scenario", ["transitive", "multimodal", "joint"])
def test_it_goes_with_pictures(scenario: str) -> None:
    assert loaded(*DEMO, f"scenario={scenario}").evaluate.name_first
    assert not loaded("experiment=demo", "editor=ft").evaluate.name_first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("scenario=unimodal",), "scenario=unimodal asks about no picture that could be named"),
        (("scenario=reverse",), "scenario=reverse asks .* use scenario=transitive or"),
        (
            ("scenario=transitive", "protocol=sequential", "protocol.n=2"),
            "evaluate.name_first=true with protocol=sequential: .* use protocol=single",
        ),
    ],
)
def test_it_is_refused(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        loaded(*DEMO, *words)


def test_data_without_text_questions_has_no_place_for_a_name(tmp_path: Path) -> None:
    words = ("data=vlkeb", f"data.root={tmp_path}", "scenario=multimodal")
    with pytest.raises(ConfigError, match="the edits of data=vlkeb have no text question"):
        loaded("editor=ft", "model=llava_tiny", "evaluate.name_first=true", *words)


def test_training_has_no_use_for_it() -> None:
    with pytest.raises(ConfigError, match="name_first"):
        load_config("train", ["experiment=demo", "editor=mend", "evaluate.name_first=true"])
