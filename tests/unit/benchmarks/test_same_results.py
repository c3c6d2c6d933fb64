"""Two folders of results: what counts as the same, and what does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from benchmarks import same_results
from benchmarks.same_results import compare, main

REPORT = "# Results\n\n## Unimodal scenario\n\n| FT | 97.5 |\n\n## Cost\n\n| FT | {} s |\n"


def write(folder: Path, *, score: float = 0.5, seconds: float = 1.0, weight: float = 0.25) -> Path:
    """A run's files with one score, one duration and one weight."""
    (folder / "run" / "checkpoints").mkdir(parents=True)
    run = folder / "run"
    edits = {"edit_id": [0, 1], "value": [1.0, score], "post_text": ["shoes", None]}
    pd.DataFrame({**edits, "seconds": seconds}).to_parquet(run / "edits.parquet")
    pd.DataFrame({"step": [1, 2], "train/loss": [float("nan"), score]}).to_csv(run / "metrics.csv")
    metrics = {"Reliability": {"mean": score, "ci95": [0.0, 1.0], "n": 2}}
    (run / "summary.json").write_text(
        json.dumps({"metrics": metrics, "n_edits": 2, "seconds_per_edit": seconds})
    )
    state = {"editor.edit_lr": torch.tensor([0.5, weight])}
    stored = {"global_step": 3, "state_dict": state, "optimizer_states": [], "callbacks": {}}
    torch.save(stored, run / "checkpoints" / "best.ckpt")
    save_file({"moment": state["editor.edit_lr"]}, run / "moment.safetensors")
    (run / "report.md").write_text(REPORT.format(seconds))
    (run / "trace.json").write_text(json.dumps({"effect": [None, score]}))
    return folder


def different(old: Path, new: Path) -> dict[str, list[str]]:
    return {name: lines for name, lines in compare(old, new).items() if lines}


def test_times_are_no_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old, new = write(tmp_path / "old"), write(tmp_path / "new", seconds=2.0)
    assert main(["compare", str(old), str(new)]) == 0
    assert "7 of 7 files are equal" in capsys.readouterr().out


def test_a_changed_last_digit_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    next_score = float(np.nextafter(0.5, 1))
    old, new = write(tmp_path / "old"), write(tmp_path / "new", score=next_score)
    assert main(["compare", str(old), str(new)]) == 1
    assert "3 of 7 files are equal" in capsys.readouterr().out
    line = f"row 1: 0.5 -> {next_score!r} (1 of 2 rows differ)"
    assert different(old, new) == {
        "run/edits.parquet": [f"value: {line}"],
        "run/metrics.csv": [f"train/loss: {line}"],
        "run/summary.json": [
            f"metrics.Reliability.mean: row 0: 0.5 -> {next_score!r} (1 of 1 rows differ)"
        ],
        "run/trace.json": [f"effect.1: row 0: 0.5 -> {next_score!r} (1 of 1 rows differ)"],
    }


def test_a_changed_weight_is_reported(tmp_path: Path) -> None:
    next_weight = float(np.nextafter(np.float32(0.25), np.float32(1)))
    old, new = write(tmp_path / "old"), write(tmp_path / "new", weight=next_weight)
    found = different(old, new)
    assert set(found) == {"run/checkpoints/best.ckpt", "run/moment.safetensors"}
    assert found["run/checkpoints/best.ckpt"][0].startswith(
        "state_dict.editor.edit_lr: row 3: 0.25"
    )


def test_what_is_in_one_folder_only_is_reported(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old"), write(tmp_path / "new")
    (old / "run" / "trace.json").unlink()
    edits = pd.read_parquet(new / "run" / "edits.parquet")
    edits[["edit_id", "post_text"]].head(1).to_parquet(new / "run" / "edits.parquet")
    assert different(old, new) == {
        "run/trace.json": ["only in the new folder"],
        "run/edits.parquet": [
            "value: only in the old file",
            "edit_id: row 1: 1 -> '(no row)' (1 of 2 rows differ)",
            "post_text: row 1: nan -> '(no row)' (1 of 2 rows differ)",
        ],
    }


def test_a_report_s_table_is_a_result(tmp_path: Path) -> None:
    old, new = write(tmp_path / "old"), write(tmp_path / "new")
    page = new / "run" / "report.md"
    page.write_text(page.read_text().replace("97.5", "97.6"))
    assert different(old, new) == {
        "run/report.md": [
            "## Unimodal scenario: row 2: '| FT | 97.5 |' -> '| FT | 97.6 |' (1 of 4 rows differ)"
        ]
    }


def test_nothing_to_compare_is_no_success(tmp_path: Path) -> None:
    for folders in ((tmp_path, tmp_path), (tmp_path, tmp_path / "nowhere")):
        with pytest.raises(SystemExit, match="2"):
            main(["compare", *map(str, folders)])


def test_the_matrix_can_be_narrowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One model and two editors: what is run, and where it goes."""
    commands: list[list[str]] = []
    monkeypatch.setattr(same_results, "run_all", lambda group: commands.extend(map(list, group)))
    words = ["--models", "blip2_opt_tiny", "--editors", "mend", "ft", "--edits", "3"]
    assert main(["make", str(tmp_path), *words, "--jobs", "1"]) == 0
    train, learned, free = commands[:3]
    assert train[-2:] == ["editor=mend", "model=blip2_opt_tiny"]
    assert f"ckpt={tmp_path}/blip2_opt_tiny/train-mend/checkpoints/best.ckpt" in learned
    assert {"editor=ft", f"output_dir={tmp_path}/blip2_opt_tiny/free", "data.limit=3"} <= set(free)
    scripts = {command[0] if command[0] != "-m" else command[1] for command in commands[3:]}
    assert {"make", "evaluate.py", "pretrain.py"} < scripts
    assert not any("rome" in word for word in free)
