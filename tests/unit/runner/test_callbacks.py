"""Callbacks of a user: from a package or a file of the working directory, or one sentence."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from lightning.pytorch.callbacks import DeviceStatsMonitor

from configs.check import load_config
from configs.schema import TrainConfig
from errors import ConfigError
from runner.callbacks import user_callbacks


def train(*words: str) -> TrainConfig:
    config = load_config("train", ["experiment=demo", "editor=mend", *words])
    assert isinstance(config, TrainConfig)
    return config


def test_a_package_s_and_one_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "from lightning.pytorch.callbacks import Callback\nclass Mine(Callback):\n"
    monkeypatch.setattr(sys, "path", list(sys.path))
    cfg = train(
        "+callbacks.device={_target_: lightning.pytorch.callbacks.DeviceStatsMonitor}",
        "+callbacks.mine._target_=callbacks_of_a_user.Mine", "+callbacks.mine.word=hello",
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)
    Path("callbacks_of_a_user.py").write_text(
        f"{text}    def __init__(self, word):\n        self.word = word\n"
    )
    device, mine = user_callbacks(cfg)
    assert isinstance(device, DeviceStatsMonitor)
    assert mine.word == "hello"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["_target_=nosuch.Module"], r"callbacks.x._target_=nosuch.Module: .*No module named"),
        (["_target_=lightning.pytorch.callbacks.Nosuch"], r"importable from module"),
        (["_target_=lightning.pytorch.callbacks.Timer", "length=3"], r"length=3 .*unexpected"),
        (["_target_=collections.Counter"], r"makes a Counter, and a callback of Lightning"),
    ],
)
def test_what_is_no_callback_is_refused_by_name(words: list[str], message: str) -> None:
    cfg = train(*(f"+callbacks.x.{word}" for word in words))
    with pytest.raises(ConfigError, match=message):
        user_callbacks(cfg)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("callbacks.x._target_=a.B", r"is added with a plus"),
        ("callbacks={x: {_target_: a.B}}", r"is added with a plus"),
        ("+callbacks.x.duration=3", r"_target_ is required"),
        ("+callbacks.x=3", r"callbacks.x=3: input should be a valid dictionary"),
    ],
)
def test_how_a_callback_is_typed(word: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        train(word)
