"""A run that is killed and continued ends as one that was left alone."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pandas as pd
import pytest

from tests.e2e.commands import killed_after, run

pytestmark = pytest.mark.e2e
N, SIZE = 16, 2


def words(world: Path, folder: Path, *more: str) -> list[str]:
    return [
        "editor=ft", "experiment=demo", "scenario=transitive", f"data.root={world}", "logger=none",
        f"data.limit={N}", f"evaluate.batch_size={SIZE}", "data.filter_known=none",
        "trainer.enable_progress_bar=false", f"output_dir={folder}", *more,
    ]  # fmt: skip


def edits(folder: Path) -> pd.DataFrame:
    return pd.read_parquet(folder / "edits.parquet").drop(columns="seconds")


def metrics(folder: Path) -> dict:
    summary = json.loads((folder / "summary.json").read_text())
    return summary["metrics"] | summary["variants"]


@pytest.fixture(scope="module")
def unbroken(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "unbroken"
    run("evaluate.py", *words(world, folder))
    return folder


def test_three_kills_at_random_moments_change_nothing(
    world: Path, unbroken: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    command = words(world, folder, "resume=true")
    for moment in sorted(random.Random().sample(range(1, N // SIZE), 3)):
        killed_after(moment, folder, *command)
    left = list((folder / "partial").glob("*.parquet"))
    left[0].write_bytes(left[0].read_bytes()[:100])  # a disk that was full, say
    refused = run("evaluate.py", *words(world, folder), status=2)
    assert "continue that run with resume=true" in refused
    refused = run("evaluate.py", *words(world, folder, "resume=true", "seed=5"), status=2)
    assert "seed was 0 and is 5" in refused
    printed = run("evaluate.py", *command)
    assert "edits are there already" in printed
    pd.testing.assert_frame_equal(edits(folder), edits(unbroken))
    assert metrics(folder) == metrics(unbroken)
    read = edits(folder).groupby("probe")[["named_before", "fact_before", "pre_value"]].count()
    assert read.loc["reliability_u"].all(), "what was read before is there of all edits"
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.yaml", "edits.parquet", "log.txt", "probes.parquet", "summary.json", "table.md",
    ]  # fmt: skip


def test_a_finished_run_is_shown_and_not_made_again(world: Path, unbroken: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in unbroken.iterdir()}
    printed = run("evaluate.py", *words(world, unbroken, "resume=true"))
    assert "Finished already" in printed
    assert "Reliability_S" in printed
    assert {path: path.stat().st_mtime_ns for path in unbroken.iterdir()} == before


def test_resume_wants_a_folder_and_no_overwriting(world: Path, tmp_path: Path) -> None:
    printed = run("evaluate.py", "editor=ft", "resume=true", "overwrite=true", status=2)
    assert "add output_dir=DIR" in printed
    assert "leave one of them out" in printed


def test_provenance_says_what_the_numbers_came_from(unbroken: Path) -> None:
    found = json.loads((unbroken / "summary.json").read_text())
    assert found["config"]["editor"]["name"] == "ft"
    assert found["config"]["output_dir"] == str(unbroken)
    assert set(found["environment"]) >= {"device", "dtype", "processes", "threads", "system"}
    assert found["environment"]["dtype"] == "float32"
    assert {"python", "torch", "transformers", "lightning"} <= set(found["versions"])
    if found["git"] is not None:
        assert len(found["git"]["commit"]) == 40
        assert isinstance(found["git"]["dirty"], bool)
    for name in ("data_digest", "model_digest", "probe_digest"):
        assert len(found["settings"][name]) >= 12
    assert found["trained_parameters"] == 0
    probes = pd.read_parquet(unbroken / "probes.parquet")
    asked = set(zip(edits(unbroken).edit_id, edits(unbroken).probe, strict=True))
    taught = probes[probes.probe == "edit"]
    assert list(taught.edit_id) == list(range(N))
    assert taught.image.isna().all(), "the transitive scenario teaches in text"
    assert set(zip(probes.edit_id, probes.probe, strict=True)) - asked == {
        (number, "edit") for number in range(N)
    }
    shown = probes.image.dropna().unique()
    assert len(shown)
    assert all((Path(found["settings"]["image_root"]) / name).is_file() for name in shown)
