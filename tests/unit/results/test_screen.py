"""The screen shows a text as it is."""

import io
import re
import sys
from pathlib import Path

import pytest
from rich.table import Table

from results.screen import screen

ROOT = Path(__file__).resolve().parents[3]
TEXT = "runs/[b]a[/b] [/red] :star: [link=x]é"


def test_a_text_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(TEXT, title=TEXT, caption=TEXT)
    table.add_row(TEXT)
    console = screen()
    console.print(TEXT, soft_wrap=True)
    console.print(table)
    assert capsys.readouterr().out.count(TEXT) == 5
    screen(stderr=True).print(TEXT, soft_wrap=True)
    assert capsys.readouterr().err == f"{TEXT}\n"


def test_a_letter_that_the_terminal_lacks_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    screen().print("Written to runs/é", soft_wrap=True)
    sys.stdout.flush()
    assert shown.getvalue() == b"Written to runs/\\xe9\n"


def test_nobody_has_a_screen_of_their_own() -> None:
    own = re.compile(r"\bConsole\(|rich\.print|from rich import|from_markup|markup=True|\[bold\]")
    found = {
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*.py")
        if not {"tests", "benchmarks", ".venv"} & set(path.relative_to(ROOT).parts)
        and own.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"results/screen.py"}
