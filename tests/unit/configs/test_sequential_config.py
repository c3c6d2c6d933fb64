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
    assert protocol.model_dump(exclude_none=True) == {"name": "single"}


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


@pytest.mark.parametrize(
    ("words", "protocol"),
    [
        (["protocol=sequential"], {"turn": 1}),
        (["protocol=sequential", "protocol.turn=10", "protocol.n=10,30,45"], {"turn": 10}),
        (["protocol=sequential", "protocol.turn=10", "protocol.n=10"], {"turn": 10}),
        (["protocol=batch", "protocol.n=1,7"], {}),
        (["protocol=batch", "protocol.contradictions=error"], {"contradictions": "error"}),
    ],
)
def test_turns_and_batches(words: list[str], protocol: dict[str, object]) -> None:
    found = evaluate(*words).protocol.model_dump(exclude_none=True)
    expected = {"contradictions": "last"} | protocol
    assert {k: v for k, v in found.items() if k not in ("name", "n")} == expected


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["protocol.turn=5"], ["protocol.turn=5", "add protocol=sequential"]),
        (["protocol.contradictions=last"], ["protocol.contradictions=last", "protocol=batch"]),
        (["protocol=batch", "protocol.turn=5"], ["protocol.turn=5 with protocol=batch"]),
        (["protocol=batch", "protocol.n=null"], ["protocol.n is required with protocol=batch"]),
        (["protocol=batch", "protocol.contradictions=null"], ["contradictions is required"]),
        (["protocol=batch", "protocol.contradictions=first"], ["contradictions=first", "'last'"]),
        (["protocol=batch", "data.limit=50"], ["protocol.n=1,10,100", "data.limit=50"]),
        (["protocol=batch", "trainer.devices=2"], ["trainer.devices=2", "one process"]),
        (["protocol=batch", "trainer.fast_dev_run=1"], ["with protocol=batch try protocol.n=1"]),
        (
            ["protocol=batch", "trainer.limit_test_batches=4"],
            ["limit_test_batches=4", "the largest value of protocol.n"],
        ),
        (["protocol=sequential", "protocol.turn=0"], ["protocol.turn=0", "greater than or equal"]),
        (["protocol=sequential", "protocol.turn=null"], ["protocol.turn is required"]),
        (
            ["protocol=sequential", "protocol.turn=10"],
            ["protocol.n=1,10,100 with protocol.turn=10", "as at 1.", "give protocol.n=10,100;"],
        ),
        (
            ["protocol=sequential", "protocol.turn=4", "protocol.n=4,6,9"],
            ["protocol.n=4,6,9 with protocol.turn=4", "as at 6.", "give protocol.n=4,9;"],
        ),
        (
            ["protocol=sequential", "protocol.turn=11", "protocol.n=10"],
            ["protocol.turn=11 is more edits than protocol.n=10 makes"],
        ),
    ],
)
def test_a_mistake_of_turns_and_batches_is_named(words: list[str], parts: list[str]) -> None:
    message = complaint(*words)
    assert all(part in message for part in parts), message
    assert "one mistake" in message


def test_an_editor_of_single_edits_is_refused_where_one_update_makes_many() -> None:
    words = ("editor=rome", "protocol.n=10")
    asked = {"protocol=batch": ["protocol=batch"]}
    asked["protocol.turn=10"] = ["protocol=sequential", "protocol.turn=10"]
    for named, protocol in asked.items():
        with pytest.raises(ConfigError) as caught:
            load_config("evaluate", [*words, *protocol])
        message = str(caught.value)
        assert f"editor=rome has no way to make many edits in one update, which {named}" in message
        assert {"ft,", "mend,", "malmen,"} <= set(message.partition("these have: ")[2].split())
    alone = load_config("evaluate", [*words, "protocol=sequential"])
    assert isinstance(alone, EvaluateConfig)
    assert not alone.editor.together


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
