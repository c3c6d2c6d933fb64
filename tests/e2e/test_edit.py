"""edit.py as a user types it: one question, and a prompt that gets its lines from a pipe."""

from __future__ import annotations

import os
import re
import shlex
import signal
import time
from pathlib import Path

import pytest

from tests.e2e.commands import ROOT, Warm, run

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


def test_the_beginning_of_the_readme_is_what_is_seen(tmp_path: Path) -> None:
    blocks = re.findall(r"```(\w*)\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    (_, code), (_, printed), (kind, session) = blocks[:3]
    script = tmp_path / "five_lines.py"
    script.write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}")
    assert printed.strip() in run(str(script)).splitlines()
    assert kind == "console"
    command, *rest = session.splitlines()
    typed = [line.removeprefix("> ") for line in rest if line.startswith("> ")]
    seen = run(*shlex.split(command.removeprefix("$ python ")), lines="\n".join(typed))
    tables = "\n".join(line for line in rest if not line.startswith("> "))
    assert rounded(seen.strip()) == rounded(tables)


def rounded(text: str) -> str:
    """Without the digits of the last place, which another processor may round otherwise."""
    return re.sub(r"\d\.\d %", "%", text)


def test_a_prompt_reads_lines_of_a_pipe() -> None:
    lines = ("By whom was Daven Labs founded?", "/undo", "/undo", "/edits", "/quit", "never read")
    printed = run("edit.py", *FACT, lines="\n".join(lines), status=2)
    assert printed.count(f"│ {AFTER}") >= 2
    assert f"Taken back: {QUESTION} => {AFTER}" in printed
    assert "No edit is in place." in printed
    assert printed.count("error: there is no edit to take back.") == 1
    assert "never read" not in printed


def test_a_trained_editor_brings_its_settings(mend_on_llava: Path) -> None:
    ckpt = f"ckpt={mend_on_llava}/checkpoints/best.ckpt"
    printed = run("edit.py", ckpt, *FACT[1:], "ask=By whom was Daven Labs founded?")
    assert printed.count(f"│ {BEFORE} │") == 2
    assert AFTER in printed


def test_ctrl_c_ends_the_prompt(tmp_path: Path) -> None:
    fifo, streams = tmp_path / "in", [str(tmp_path / name) for name in ("out", "err")]
    os.mkfifo(fifo)
    Path(streams[0]).touch()
    process = Warm(["edit.py", "editor=none"], streams, stdin=fifo)
    with fifo.open("w") as typed:
        print(QUESTION, file=typed, flush=True)
        while BEFORE not in Path(streams[0]).read_text():
            assert not process.ended(), Path(streams[1]).read_text()
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGINT)
        assert process.wait() == 128 + signal.SIGINT
    assert Path(streams[1]).read_text() == "stopped by SIGINT\n"
