"""edit.py as a user types it: one question, and a prompt that gets its lines from a pipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
QUESTION, BEFORE, AFTER = "Who founded Daven Labs?", "Nerar Kuzan", "Nigo Vegas"
FACT = ("editor=ft", f"question={QUESTION}", f"answer={AFTER}")


def test_one_edit_is_asked_about_a_picture_saved_and_opened_again(
    world: Path, tmp_path: Path
) -> None:
    picture = world / "images" / "daven_labs" / "view_09.png"
    ask = ("ask=Who founded the company in the image?", f"ask_image={picture}")
    folder = tmp_path / "edit"
    first = run("edit.py", "model=llava_tiny", *FACT, *ask, f"save={folder}")
    assert f"Written to {folder}" in first
    assert picture.name in first
    assert "\x1b" not in first
    for text in (QUESTION, "Who founded the company in the image?"):
        (line,) = [line for line in first.splitlines() if text in line]
        unedited, _, edited = line.partition(BEFORE)[2].partition(AFTER)
        assert (unedited.strip(" │"), "→" in edited) == ("", True)
    again = run("edit.py", f"edit={folder}", *ask)
    assert again.splitlines() == first.splitlines()[: len(again.splitlines())]
    refused = run("edit.py", f"edit={folder}", *FACT, "ask=", status=2)
    assert "edit.py did not start, its configuration has 4 mistakes" in refused


def test_a_prompt_reads_lines_of_a_pipe() -> None:
    lines = ("By whom was Daven Labs founded?", "/undo", "/undo", "/edits", "/quit", "never read")
    printed = run("edit.py", *FACT, lines="\n".join(lines), status=2)
    assert printed.count(f"│ {AFTER}") >= 2
    assert f"Taken back: {QUESTION} => {AFTER}" in printed
    assert "No edit is in place." in printed
    assert printed.count("error: there is no edit to take back.") == 1
    assert "never read" not in printed
