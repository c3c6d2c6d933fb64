"""`python -m models export`: what it prints, and how a command line is judged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from editing.card import CARD
from editing.edit import FactEdit
from models.__main__ import main


@pytest.fixture(scope="module")
def kept(edit: FactEdit, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edit.save(tmp_path_factory.mktemp("kept") / "edit")


def test_it_prints_what_merging_did(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "merged"
    assert main(["export", f"edit={kept}", "--output", str(output)]) == 0
    printed = capsys.readouterr()
    assert "layers.3.mlp.up_proj" in printed.out
    assert "float16" in printed.out
    assert f"AutoModelForImageTextToText.from_pretrained('{output}')" in printed.out
    assert f"wrote {output}" in printed.out
    assert "20.2 MB of disk" in printed.err


def test_an_adapter_says_its_ranks(
    kept: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["export", f"edit={kept}", "--output", str(tmp_path / "out"), "--format", "peft"]
    assert main(words) == 0
    assert "PeftModel.from_pretrained(model" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["model=llava_tiny"], "one edit is exported, and 0 are given"),
        (["edit=a", "edit=b"], "one edit is exported, and 2 are given"),
        (["edit=nowhere"], "edit=nowhere: there is no such folder"),
        (["edit={kept}", "colour=red"], "there is no key colour"),
        (["edit={kept}", "model=llava_tiny", "model.quantise=4bit"], "nothing is merged into it"),
    ],
)
def test_mistakes_are_told(
    kept: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    given = [word.format(kept=kept) for word in words]
    assert main(["export", *given, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_base_that_the_card_does_not_find_is_asked_for(
    kept: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = json.loads((kept / CARD).read_text())
    card["base"]["name"] = "mine"
    elsewhere = tmp_path / "edit"
    elsewhere.mkdir()
    for file in kept.iterdir():
        (elsewhere / file.name).write_bytes(file.read_bytes())
    (elsewhere / CARD).write_text(json.dumps(card))
    words = ["export", f"edit={elsewhere}", "--output", str(tmp_path / "out")]
    assert main(words) == 2
    assert "made on mine" in capsys.readouterr().err
    path = root / "models" / "pretrained" / "llava_tiny"
    assert main([words[0], words[1], f"model.path={path}", *words[2:]]) == 0


@pytest.mark.parametrize("size", ["5", "big", "0GB", "-1GB"])
def test_a_size_is_read(size: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["export", "edit=a", "--output", str(tmp_path), f"--max-shard-size={size}"])
    assert "a size such as 5GB" in capsys.readouterr().err
