"""What the page shows as text, and how it is served; tests/e2e/test_play.py clicks through it."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

import play
from editing.answer import Answered, Probability
from playground.choices import editors, models, needs_checkpoint
from playground.table import answer_table, percent


class Texts(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_what_models_and_users_say_stands_in_the_table_as_text() -> None:
    hostile = "<img src=x onerror=alert(1)>"
    probabilities = (Probability(hostile, 0.25, 0.5),)
    table = answer_table(Answered(hostile, None, hostile, hostile, probabilities))
    read = Texts()
    read.feed(table)
    assert "img" not in read.tags
    assert read.texts.count(hostile) == 4, "the question, both answers, and a probability's"


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "100.0 %"), (0.98765, "98.8 %"), (0.0005, "0.1 %"), (0.0004, "< 0.1 %")],
)
def test_probabilities_are_rounded_and_never_nothing(value: float, text: str) -> None:
    assert percent(value) == text


def test_models_and_editors_that_are_there_can_be_chosen() -> None:
    assert {"llava_tiny", "blip2_opt_tiny", "minigpt4_tiny"} <= set(models())
    assert {"ft", "ft_l", "rome", "lora", "ike"} <= {
        e for e in editors() if not needs_checkpoint(e)
    }
    assert {e for e in editors() if needs_checkpoint(e)} == {"malmen", "mend", "rledit", "serac"}
    assert "none" not in editors()


def test_markdown_is_shown_as_it_was_typed() -> None:
    pytest.importorskip("streamlit", reason="streamlit is not installed")
    from playground.page import plain

    assert plain("a_b *c* $d$ :e: [f](g)") == r"a\_b \*c\* \$d\$ \:e\: \[f\]\(g\)"


def test_the_page_is_for_this_machine_alone_unless_another_host_is_typed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = pytest.importorskip("streamlit.web.cli", reason="streamlit is not installed")
    served: list[list[str]] = []
    monkeypatch.setattr(cli, "main", lambda words, standalone_mode: served.append(words))
    assert play.main([]) == 0
    assert capsys.readouterr().err == ""
    assert {"--server.address=127.0.0.1", "--browser.gatherUsageStats=false"} <= set(served[0])
    assert play.main(["--host", "0.0.0.0", "--port", "9000"]) == 0
    assert "everyone who reaches this machine" in capsys.readouterr().err
    assert {"--server.address=0.0.0.0", "--server.port=9000"} <= set(served[1])


def test_a_missing_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(play, "find_spec", lambda name: None)
    assert play.main([]) == 2
    assert "the extra `play`" in capsys.readouterr().err
