"""The prompt of edit.py: every line is answered, and a mistake ends nothing."""

from __future__ import annotations

import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from datamodules.source import RecordSource
from editing.editor import FactEditor
from editing.lines import history_file, lines
from editing.model import OpenedModel
from editing.prompt import Prompt
from editing.session import Session


@pytest.fixture
def prompt(fine_tuning: FactEditor) -> Prompt:
    console = Console(file=StringIO(), width=160, markup=False, emoji=False)
    return Prompt(Session(fine_tuning.model, fine_tuning), console)


def said(prompt: Prompt, *typed: str) -> str:
    """What is printed for some lines."""
    stream = prompt.console.file
    assert isinstance(stream, StringIO)
    before = len(stream.getvalue())
    prompt.run(typed)
    return stream.getvalue()[before:]


QUESTION, BEFORE, AFTER = "Who founded Daven Labs?", "Nerar Kuzan", "Nigo Vegas"
EDIT = f"/edit {QUESTION} => {AFTER} | Daven Labs"


def test_a_conversation(prompt: Prompt, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unedited = said(prompt, QUESTION)
    assert unedited.count(BEFORE) == 3  # of both models, and its probability
    assert AFTER not in unedited
    assert AFTER in said(prompt, EDIT)
    assert AFTER in said(prompt, "", "By whom was Daven Labs founded?")
    said(prompt, "/edit What does Rizo Corp make? => shoes")
    listed = said(prompt, "/edits").splitlines()
    assert listed == [f"1. {EDIT.removeprefix('/edit ')}", "2. What does Rizo Corp make? => shoes"]
    assert "shoes" not in said(prompt, "/undo", "What does Rizo Corp make?").split("\n", 1)[1]
    assert AFTER in said(prompt, QUESTION)
    saved = said(prompt, f"/save {tmp_path / 'edit'}")
    assert saved == f"Written to {tmp_path / 'edit'}\n"
    assert said(prompt, "/undo", "/edits").endswith("No edit is in place.\n")
    assert prompt.mistakes == 0
    assert "takes the last edit back" in said(prompt, "/help", "/quit", "/undo")
    assert (prompt.mistakes, capsys.readouterr().err) == (0, "")


def test_mistakes_are_sentences(
    prompt: Prompt, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    mistakes = {
        "/imge a.png": "there is no command /imge; did you mean /image",
        "/edit Who?": "an arrow stands between question and answer",
        "/edit => Nigo": "question='': a text is needed",
        "/edit Who? => ": "answer='': a text is needed",
        "/edit Who? => me | Daven": "the subject 'Daven' does not occur in the question",
        "/undo": "there is no edit to take back",
        "/undo 3": "/undo takes nothing, and '3' stands behind it",
        "/save": "/save DIR: name a folder",
        f"/save {tmp_path}/a": "there is no edit to save",
        f"/image {tmp_path}/text.png": "text.png cannot be read: it is no picture",
        "/image gone.png": "gone.png cannot be read: No such file",
        "word " * 600: "tokens",
    }
    assert said(prompt, *mistakes) == ""
    errors = capsys.readouterr().err.splitlines()
    assert [
        told for told, line in zip(mistakes.values(), errors, strict=True) if told not in line
    ] == []
    assert prompt.mistakes == len(mistakes)


def test_pictures_go_with_the_questions_that_follow(prompt: Prompt, source: RecordSource) -> None:
    record = next(r for r in source.records("test") if r.subject == "Daven Labs")
    path = source.pictures.path(str(record.image)).absolute()
    asked = str(record.knowledge_edit.image_question)
    assert said(prompt, f"/image {path}") == f"Picture: {path}\n"
    answered = said(prompt, asked, f"/edit {asked} => {AFTER}")
    assert (BEFORE in answered, AFTER in answered, path.name in answered) == (True, True, True)
    assert said(prompt, "/image", "/edits").splitlines() == [
        "No picture from here on.", f"1. {asked} => {AFTER}  [{path.name}]",
    ]  # fmt: skip


def test_an_opened_edit_brings_no_editor(
    model: OpenedModel, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Prompt(Session(model, None), Console(file=StringIO(), width=160))
    assert BEFORE in said(opened, QUESTION)
    said(opened, EDIT)
    assert "start edit.py with editor=NAME" in capsys.readouterr().err


def test_lines_of_a_pipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    piped = tmp_path / "lines"
    piped.write_bytes(b"one\ntwo \xff\n")
    with piped.open(encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        assert list(lines()) == ["one\n", "two \\xff\n"]


def test_typed_lines_are_remembered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    readline = pytest.importorskip("readline")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr("editing.lines.is_typed", lambda: True)
    typed = iter(["Who?", "/quit"])

    def line(shown: str) -> str:
        try:
            text = next(typed)
        except StopIteration:
            raise EOFError from None
        readline.add_history(text)
        return text

    monkeypatch.setattr("builtins.input", line)
    assert list(lines()) == ["Who?", "/quit"]
    assert history_file().is_relative_to(tmp_path)
    assert history_file().read_text().split("\n")[-3:-1] == ["Who?", "/quit"]
    history_file().unlink()
    history_file().mkdir()  # what cannot be read or written ends nothing
    typed = iter(["again"])
    assert list(lines()) == ["again"]
