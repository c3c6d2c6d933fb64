"""House rule: whatever computes is told its device. Libraries that choose one choose cuda:0."""

import ast
import re
from pathlib import Path

import pytest
import torch
from lightning.pytorch.accelerators import CPUAccelerator

from configs.check import load_config
from runner.start import start
from tests.unit.test_imports import ARROWS, python_files

ROOT = Path(__file__).resolve().parents[2]
CHOOSE = {"SentenceTransformer", "CrossEncoder", "pipeline"}  # take a GPU where none is named


def source_files() -> list[Path]:
    return [path for room in ARROWS for path in python_files(room)]


def calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    """Calls with the last part of the name of what is called."""
    named = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        (str(getattr(node.func, "id", "") or getattr(node.func, "attr", "")), node)
        for node in named
    ]


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_chooses_a_device_for_itself(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for name, call in calls(tree):
        given = {keyword.arg for keyword in call.keywords}
        assert name not in CHOOSE or "device" in given, f"{path}:{call.lineno}: no device"
        assert name != "cuda", f"{path}:{call.lineno}: .cuda() takes the current device"
        assert name != "set_default_device", f"{path}:{call.lineno}"
        kind = [node.value for node in call.args if isinstance(node, ast.Constant)]
        assert name != "device" or kind in ([], ["cpu"], ["meta"]), f"{path}:{call.lineno}: {kind}"
    strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    numbered = [text for text in strings if re.fullmatch(r"(cuda|mps):\d", str(text))]
    assert not numbered


def test_the_rule_meets_the_encoders() -> None:
    """The one place that opens sentence encoders is a call that the rule looks at."""
    found = [
        path.relative_to(ROOT).as_posix()
        for path in source_files()
        for name, _ in calls(ast.parse(path.read_text(encoding="utf-8")))
        if name in CHOOSE
    ]
    assert found == ["editors/sentences.py"]


def test_a_run_s_device_is_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With trainer.devices=[3] whatever asks for "the" GPU would otherwise get the first one."""
    made_current: list[torch.device] = []
    monkeypatch.setattr(
        CPUAccelerator, "setup_device", lambda _, device: made_current.append(device)
    )
    cfg = load_config("evaluate", ["editor=none", "model=llava_tiny", "output_dir=unused"])
    with start(cfg) as run:
        assert made_current == [run.device] == [torch.device("cpu")]
