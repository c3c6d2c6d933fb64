"""data.on_error=skip through the real command: what is said, what is kept, what is scored."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import run
from tests.odd.records import IMAGES, records, write_data

pytestmark = pytest.mark.e2e


def summary(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    return found


def write_broken(root: Path) -> Path:
    """Three sound records, and one of each kind that cannot be used."""
    write_data(root, 3)
    sound = records(3)
    no_answer = {**sound[0], "subject": "Zeven", "knowledge_edit": {"question": "Where?"}}
    no_picture = {**sound[0], "subject": "Yach", "image": "nowhere.png"}
    damaged = {**sound[0], "subject": "Xanten", "image": "damaged.png"}
    (root / IMAGES / "damaged.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    lines = [no_answer, sound[0], no_picture, *sound[1:], damaged, sound[2]]
    (root / "records.json").unlink()
    (root / "records.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return root


def test_records_that_cannot_be_used_are_left_out_said_and_kept(tmp_path: Path) -> None:
    broken, sound = write_broken(tmp_path / "broken"), write_data(tmp_path / "sound", 3)
    words = (
        "evaluate.py", "experiment=demo", "editor=ft", "model=llava_tiny", "editor.steps=2",
        "scenario=multimodal", "data=tmke", "logger=none",
    )  # fmt: skip
    printed = run(*words, f"data.root={broken}", f"output_dir={tmp_path / 'a'}", status=2)
    assert "record 0 (line 1)" in printed
    assert "data.on_error=skip" in printed
    assert not (tmp_path / "a").exists()
    for name, root in (("a", broken), ("b", sound)):
        printed = run(
            *words, f"data.root={root}", "data.on_error=skip", f"output_dir={tmp_path / name}"
        )
        assert ("4 records left out" in printed) == (root is broken)
    with_skip, without = summary(tmp_path / "a"), summary(tmp_path / "b")
    assert with_skip["metrics"] == without["metrics"]
    assert with_skip["settings"]["probe_digest"] == without["settings"]["probe_digest"]
    assert without["left_out_records"] == []
    left_out = with_skip["left_out_records"]
    assert [record["subject"] for record in left_out] == ["Zeven", "Calden", "Yach", "Xanten"]
    assert left_out[2]["record"] == f"record 2 (line 3) of {broken / 'records.jsonl'}"
    assert "nowhere.png" in left_out[2]["reason"]
    log = (tmp_path / "a" / "log.txt").read_text(encoding="utf-8")
    assert all(record["subject"] in log for record in left_out)
    assert "4 records left out" in (tmp_path / "a" / "table.md").read_text(encoding="utf-8")
