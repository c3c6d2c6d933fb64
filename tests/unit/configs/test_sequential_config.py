"""protocol=sequential on the command line: what is understood, and what is refused."""

from __future__ import annotations

import pytest

from configs.check import load_config, preflight
from configs.composing import hydra_ready
from configs.launch import _checked_arguments
from configs.schema import EvaluateConfig
from configs.words import quote_words
from editors.ft.config import FtOptions
from editors.registry import editor_names, registration
from errors import ConfigError


def evaluate(*words: str) -> EvaluateConfig:
    config = load_config("evaluate", ["editor=ft", *words])
    assert isinstance(config, EvaluateConfig)
    return config


def complaint(*words: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config("evaluate", ["editor=ft", *words])
    return str(caught.value)


def test_single_editing_is_the_default() -> None:
    protocol = evaluate().protocol
    assert (protocol.name, protocol.n) == ("single", None)


@pytest.mark.parametrize(
    ("words", "points"),
    [
        ([], [1, 10, 100]),
        (["protocol.n=1,10"], [1, 10]),
        (["protocol.n=1,10,100,1000"], [1, 10, 100, 1000]),
        (["protocol.n=[1,10]"], [1, 10]),
        (["protocol.n=10"], [10]),
        (["protocol.n=1, 10"], [1, 10]),
        (["protocol.n=3,7", "data.limit=7"], [3, 7]),
    ],
)
def test_points_are_typed_with_and_without_brackets(words: list[str], points: list[int]) -> None:
    protocol = evaluate("protocol=sequential", *words).protocol
    assert (protocol.name, protocol.n) == ("sequential", points)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["protocol.n=1,10"], ["protocol.n=1,10", "add protocol=sequential"]),
        (["protocol.n=5"], ["protocol.n=5", "add protocol=sequential"]),
        (["protocol=sequental"], ["did you mean sequential"]),
        (["protocol=sequential", "protocol.m=1"], ["no key protocol.m"]),
        (["protocol=sequential", "protocol.n=10,1"], ["protocol.n=[10, 1]", "ascend"]),
        (["protocol=sequential", "protocol.n=1,1"], ["protocol.n=[1, 1]", "ascend"]),
        (["protocol=sequential", "protocol.n=[]"], ["protocol.n=[]", "ascend"]),
        (["protocol=sequential", "protocol.n=0,3"], ["protocol.n.0=0", "greater than or equal"]),
        (["protocol=sequential", "protocol.n=1,ten"], ["protocol.n.1=ten", "valid integer"]),
        (["protocol=sequential", "protocol.n=true"], ["protocol.n=True"]),
        (["protocol=sequential", "protocol.n=null"], ["protocol.n is required"]),
        (["protocol=sequential", "data.limit=50"], ["protocol.n=1,10,100", "data.limit=50"]),
        (["protocol=sequential", "trainer.devices=2"], ["trainer.devices=2", "one process"]),
        (
            ["protocol=sequential", "trainer.limit_test_batches=4"],
            ["limit_test_batches=4", "the largest value of protocol.n"],
        ),
        (["trainer.limit_test_batches=0.5"], ["limit_test_batches=0.5", "data.limit=N"]),
        (["seed=1,2", "protocol=sequential"], ["seed=1,2", "-m"]),
    ],
)
def test_a_mistake_is_named(words: list[str], parts: list[str]) -> None:
    message = complaint(*words)
    assert all(part in message for part in parts), message
    assert "one mistake" in message


def test_mistakes_of_a_sequence_are_told_together() -> None:
    message = complaint("protocol=sequential", "protocol.n=null", "trainer.devices=2")
    assert "2 mistakes" in message


def test_an_editor_that_cannot_keep_edits_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert evaluate("protocol=sequential").editor.sequential
    monkeypatch.setattr(FtOptions, "sequential", False)
    message = complaint("protocol=sequential")
    assert "editor=ft has no way to keep edits in place" in message
    others = [name for name in editor_names() if registration(name).options.sequential]
    assert {"mend", "malmen", "rome"} <= set(others)
    assert f"these have: {', '.join(sorted(others))}" in message
    assert evaluate().protocol.name == "single"


def test_training_knows_no_protocol() -> None:
    with pytest.raises(ConfigError, match="no group protocol"):
        load_config("train", ["protocol=sequential"])


def test_with_m_commas_make_a_run_of_each_number() -> None:
    words = ["editor=ft", "protocol=sequential", "protocol.n=1,10"]
    with hydra_ready():
        words_for_hydra, problems = preflight("evaluate", words, multirun=True)
    assert (words_for_hydra, problems) == (words, [])
    given = ["-m", *words]
    assert _checked_arguments("evaluate", given) == given


@pytest.mark.parametrize("flags", [[], ["--cfg", "job"]])
def test_hydra_is_given_a_list(flags: list[str]) -> None:
    words = ["editor=ft", "protocol=sequential"]
    found = _checked_arguments("evaluate", [*flags, *words, "protocol.n=1,10"])
    assert found == [*flags, *words, "protocol.n=[1,10]"]


def test_only_this_key_and_only_bare_commas_are_rewritten() -> None:
    words = [
        "seed=1,2",
        "protocol.n=[1,2]",
        "protocol.n=7",
        "protocol.note=1,2",
        "x.protocol.n=1,2",
    ]
    assert quote_words(words) == words
    assert quote_words(["+protocol.n=1,2"]) == ["+protocol.n=[1,2]"]
