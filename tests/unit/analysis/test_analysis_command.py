"""The one command of the analyses: its words, its flags and its help."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from analysis.__main__ import main


@pytest.mark.parametrize(
    "kind", ["causal_trace", "second_moment", "statistics", "knowledge_neurons"]
)
def test_help_names_every_analysis_and_its_flags(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    assert f"python -m analysis {kind} " in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main([kind, "--help"])
    printed = capsys.readouterr().out
    assert "configuration words" in printed
    assert ("--layer" if kind == "second_moment" else "--output") in printed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: ANALYSIS"),
        (["trace"], "invalid choice: 'trace'"),
        (["causal_trace", "model=llava_tiny"], "required: --output"),
        (["causal_trace", "--output", "out", "--nope"], "unrecognized arguments: --nope"),
    ],
)
def test_what_the_command_does_not_know(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(words)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags",
    [
        ("causal_trace", "--output", "{}", "--facts", "0"),
        ("second_moment", "--layer", "-1", "--text", "corpus.txt"),
        ("knowledge_neurons", "--output", "{}", "--steps", "0"),
        ("causal_trace", "--output", "{}", "model=nope"),
        ("knowledge_neurons", "model=llava_tiny", "--output", "{}", "editor=serac"),
        ("statistics", "model=llava_tiny", "--output", "{}", "editor=ft"),
        ("statistics", "--output", "{}", "editor=ultraedit", "editor.warm_up=0"),
    ],
)
def test_mistakes_are_told_before_torch_loads(
    flags: tuple[str, ...], root: Path, tmp_path: Path
) -> None:
    words = [word.format(tmp_path / "out") for word in flags]
    code = (
        "import sys\n"
        "from analysis.__main__ import main\n"
        f"status = main({words!r})\n"
        "print(status, 'torch' in sys.modules)\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["2", "False"], run.stdout
    assert run.stderr.startswith("error: ")
