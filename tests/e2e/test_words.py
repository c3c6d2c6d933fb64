"""A training, its second half and its evaluation in a folder of a name that others misread."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.e2e.commands import run

pytestmark = pytest.mark.e2e
# An address to Lightning and pandas, a style and a picture to rich, a formula to matplotlib, an
# equation, an unknown letter and a sweep to Hydra.
NAME = "http é=1, [b] [.cyan] :star: $x$ {a}::1e5"


def test_every_command_takes_the_folder_that_was_typed(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / NAME / "2026_11_24"
    words = (
        "train.py", "experiment=demo", "editor=mend", "logger=csv", "data.limit=8",
        "trainer.val_every=1", "trainer.max_steps=1", f"data.root={world}",
        f"output_dir='~/{NAME}/2026_11_24'",
    )  # fmt: skip
    printed = run(*words)
    assert "curves" not in printed
    assert f"best {folder}/checkpoints/best.ckpt" in printed
    printed = run(*words[:-1], f"output_dir=~/{NAME}/2026_11_24", "resume=true",
                  "trainer.max_steps=2")  # fmt: skip
    assert f"last {folder}/checkpoints/last.ckpt" in printed
    assert yaml.safe_load((folder / "config.yaml").read_text())["output_dir"] == str(folder)
    assert [path.name for path in tmp_path.iterdir() if path.name[0] != "."] == [NAME]
    assert sorted(path.name for path in folder.iterdir()) == [
        "checkpoints", "config.yaml", "curves.pdf", "curves.png", "log.txt", "metrics.csv",
    ]  # fmt: skip
    ckpt = f"ckpt=~/{NAME}/2026_11_24/checkpoints/last.ckpt"
    printed = run("evaluate.py", ckpt, "data.limit=2", "logger=none", f"output_dir={folder}/[/b]")
    assert f"Written to {folder}/[/b]" in printed
    printed = run("report.py", folder, folder / "[/b]", "--output", folder / "report")
    assert f"Written to {folder}/report/report.html" in printed
