"""Runs of ours as real offline runs of Weights & Biases, read back from disk."""

from __future__ import annotations

import logging
import math
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from configs.check import load_config
from loggers.run_loggers import open_loggers
from loggers.wandb_results import send_result
from loggers.wandb_run import GuardedWandb
from metrics.bootstrap import Estimate
from reporting.entries import Entry
from reporting.figures import grouped_bars
from reporting.thumbnails import SIDE
from results.folder import read_run
from tests.disks import disk_in_memory
from tests.e2e.commands import run
from tests.e2e.offline_runs import OfflineRun, read_runs
from tests.result_folders import edit_row, make_run, summary

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def runs(continued: Path) -> list[OfflineRun]:
    return read_runs(continued)


def test_the_curves_are_those_of_metrics_csv(continued: Path, runs: list[OfflineRun]) -> None:
    table = pd.read_csv(continued / "metrics.csv")
    names = [name for name in map(str, table) if name.startswith(("train/", "val/", "lr-"))]
    assert {"train/loss", "train/grad_norm", "val/loss", "val/reliability"} <= set(names)
    for name in names:
        expected = table[["step", name]].dropna()
        found = [point for one in runs for point in one.curve(name)]
        assert found == list(expected.itertuples(index=False, name=None)), name
    assert [len(one.curve("train/loss")) for one in runs] == [4, 2]
    assert all(one.metrics["*"] == "trainer/global_step" for one in runs)


def test_a_continued_training_continues_the_run(runs: list[OfflineRun]) -> None:
    first, again = runs
    assert first.facts["run_id"] == again.facts["run_id"]
    assert first.facts["resume"] is again.facts["resume"] is True
    steps = [line["_step"] for one in runs for line in one.history]
    assert steps == sorted(set(steps)), "what is appended to a W&B run has to ascend"


def test_a_training_is_found_by_what_it_trains(runs: list[OfflineRun]) -> None:
    facts = runs[0].facts
    assert (facts["project"], facts["run_group"]) == ("tmke", "mend-llava_tiny-unimodal")
    assert (facts["job_type"], facts["display_name"]) == ("train", "mend llava_tiny training")
    assert set(facts["tags"]) == {
        "editor:mend", "model:llava_tiny", "scenario:unimodal", "data:world",
    }  # fmt: skip
    assert facts["config"]["update"]["model"]["name"] == "llava_tiny"
    assert [one.status for one in runs] == [0, 0]


def test_a_training_shows_the_picture_of_its_curves(
    continued: Path, runs: list[OfflineRun]
) -> None:
    (picture,) = runs[-1].pictures("curves")
    assert picture.read_bytes() == (continued / "curves.png").read_bytes()


def rows_and_probes(root: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Three edits with two probes; the first edit's picture is a photograph, the others' small."""
    Image.new("RGB", (800, 400), "red").save(root / "0.jpg")
    for edit in (1, 2):
        Image.new("RGB", (32, 32), "blue").save(root / f"{edit}.png")
    rows, probes = [], []
    for edit in range(3):
        for probe, image in (
            ("reliability", None),
            ("locality_i", f"{edit}.png" if edit else "0.jpg"),
        ):
            measure = "token_agreement" if image else "token_accuracy"
            rows.append(edit_row(edit_id=edit, probe=probe, metric=measure, value=edit / 2))
            probes.append(
                {"edit_id": edit, "probe": probe, "question": "who?", "image": image, "hops": None}
            )
    (root / "2.png").unlink()  # a picture that is not there any more
    return rows, probes


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, OfflineRun]:
    """A made-up evaluation as it is sent: its folder, and the run."""
    folder = tmp_path_factory.mktemp("sent")
    rows, probes = rows_and_probes(folder)
    facts = summary("ft", "multimodal", {"Reliability_S": 75.0, "Portability": None})
    facts |= {
        "settings": {"image_root": str(folder)},
        "editor_report": {"final_loss": 0.25},
        "variants": {
            "Reliability_S_gain": Estimate(70, 60, 80, 10),
            "Reliability_S_read": Estimate(50, 40, 60, 4),
        },
        "curve": {
            1: {"Portability": Estimate(40, 30, 50, 1)},
            10: {"Portability": Estimate(20, 10, 30, 10)},
        },
    }
    cfg = load_config(
        "evaluate", ["editor=ft", "experiment=demo", "scenario=multimodal", f"output_dir={folder}"]
    )
    made = Entry.of(make_run(folder / "made", "ft", "multimodal"))
    with open_loggers(cfg, folder, name="ft", curves=False) as loggers:
        send_result(
            loggers, facts, rows, probes, table_edits=50, draw=partial(grouped_bars, [made])
        )
        assert not any(logger.lost for logger in loggers if isinstance(logger, GuardedWandb))
    (found,) = read_runs(folder)
    return folder, found


def test_an_evaluation_shows_its_metrics(sent: tuple[Path, OfflineRun]) -> None:
    _, found = sent
    table = {line.pop("metric"): line for line in found.table("result")}
    assert table["Reliability_S"] == {"mean": 75, "low": 73, "high": 79, "n": 10}
    assert table["Portability"] == {"mean": None, "low": None, "high": None, "n": 0}
    expected = {
        "Reliability_S/mean": 75, "Reliability_S/low": 73, "Reliability_S/high": 79,
        "Reliability_S/n": 10, "Reliability_S_gain/mean": 70, "Reliability_S_gain/low": 60,
        "Portability/n": 0, "n_edits": 10, "seconds_per_edit": 0.25,
        "answer_seconds_per_edit": 0.5, "peak_memory_bytes": 2**30, "editor/final_loss": 0.25,
    }  # fmt: skip
    assert {key: found.summary.get(key) for key in expected} == expected
    assert "Portability/mean" not in found.summary
    assert "Reliability_S_read/mean" not in found.summary


def test_an_evaluation_shows_its_edits_with_pictures(sent: tuple[Path, OfflineRun]) -> None:
    _, found = sent
    table = found.table("edits")
    assert [(line["edit_id"], line["probe"]) for line in table] == [
        (edit, probe) for edit in (0, 1, 2) for probe in ("reliability", "locality_i")
    ]
    assert [line["picture"] is not None for line in table] == [
        False,
        True,
        False,
        True,
        False,
        False,
    ]
    photograph, drawing = (Image.open(table[place]["picture"]) for place in (1, 3))
    assert (photograph.size, photograph.format) == ((SIDE, SIDE // 2), "JPEG")
    assert (drawing.size, drawing.format) == ((32, 32), "PNG")
    assert photograph.getpixel((0, 0))[0] > 250
    assert drawing.getpixel((0, 0)) == (0, 0, 255)
    assert {line["question"] for line in table} == {"who?"}
    assert [line["token_agreement"] for line in table[1::2]] == [0, 0.5, 1]
    assert {(line["target"], line["before"], line["after"]) for line in table} == {
        (" b", " a", " b")
    }


def test_what_an_evaluation_shows_lies_in_its_folder(sent: tuple[Path, OfflineRun]) -> None:
    """W&B would keep the pictures of tables in the home directory."""
    folder, found = sent
    files = [file for files in found.artifacts.values() for file in files.values()]
    assert len(files) == 4  # two tables, two pictures
    assert all(file.is_relative_to(folder) and file.is_file() for file in files)


def test_an_evaluation_shows_its_figures(sent: tuple[Path, OfflineRun]) -> None:
    _, found = sent
    (picture,) = found.pictures("figures/metrics")
    assert Image.open(picture).size[0] > 500


def test_a_sequential_evaluation_has_a_curve(sent: tuple[Path, OfflineRun]) -> None:
    _, found = sent
    points = [one for one in found.history if "edits_in_place" in one]
    assert [(one["edits_in_place"], one["sequential/Portability"]) for one in points] == [
        (1, 40), (10, 20),
    ]  # fmt: skip
    assert found.metrics["sequential/*"] == "edits_in_place"


def test_evaluate_sends_what_it_writes(continued: Path, tmp_path: Path) -> None:
    run(
        "evaluate.py", f"ckpt={continued}/checkpoints/best.ckpt", "scenario=multimodal",
        "data.limit=6", "logger=default", "logger.table_edits=4", f"output_dir={tmp_path}",
    )  # fmt: skip
    (found,) = read_runs(tmp_path)
    assert found.facts["run_group"] == "mend-llava_tiny-multimodal"
    assert found.facts["job_type"] == "evaluate"
    assert "protocol:single" in found.facts["tags"]
    written, edits = read_run(tmp_path), pd.read_parquet(tmp_path / "edits.parquet")
    table = {line["metric"]: line for line in found.table("result")}
    assert list(table) == list(written.metrics)
    for name, value in written.metrics.items():
        shown = {} if value.n == 0 else {"mean": value.mean, "low": value.low, "high": value.high}
        for part, number in {**shown, "n": value.n}.items():
            assert table[name][part] == found.summary[f"{name}/{part}"] == number
    assert found.summary["seconds_per_edit"] == written.seconds_per_edit
    probes = pd.read_parquet(tmp_path / "probes.parquet").set_index(["edit_id", "probe"])
    scores = edits.set_index(["edit_id", "probe", "metric"])["value"].to_dict()
    shown_edits = found.table("edits")
    assert len({line["edit_id"] for line in shown_edits}) == 4
    assert {line["probe"] for line in shown_edits} == set(edits.probe)
    for line in shown_edits:
        probe = probes.loc[(line["edit_id"], line["probe"])]
        assert line["question"] == probe["question"]
        assert (line["picture"] is None) == pd.isna(probe["image"])
        for measure in edits.metric.unique():
            score = scores.get((line["edit_id"], line["probe"], measure), math.nan)
            assert line[measure] == (None if math.isnan(score) else score)
    assert found.pictures("figures/metrics")


def services() -> list[int]:
    """Processes of W&B that this one started."""
    found = subprocess.run(
        ["ps", "-o", "pid=,stat=,comm=", "--ppid", str(os.getpid())],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    lines = [line.split() for line in found.stdout.splitlines()]
    return [
        int(pid) for pid, state, name, *_ in lines if name.startswith("wandb") and state[0] != "Z"
    ]


def test_a_service_that_crashes_ends_no_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = load_config("train", ["editor=mend", "experiment=demo", f"output_dir={tmp_path}"])
    with open_loggers(cfg, tmp_path, name="x") as (curves, wandb):
        wandb.log_metrics({"train/loss": 0.5}, 0)
        found = services()
        if not found:
            pytest.skip("the processes of W&B cannot be listed here")
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.3)
        for step in range(1, 4):
            for logger in (curves, wandb):
                logger.log_metrics({"train/loss": 0.5 / step}, step)
        curves.finalize("success")
    (told,) = [text for text in caplog.messages if "W&B" in text]
    assert "W&B is off for the rest of this run (ConnectionResetError: " in told
    assert len(pd.read_csv(tmp_path / "metrics.csv")) == 3
    assert not services()
    with open_loggers(cfg, tmp_path, name="x") as (_, wandb):  # the next run of a sweep
        wandb.log_metrics({"train/loss": 0.5}, 9)
        assert isinstance(wandb, GuardedWandb)
        assert not wandb.lost
    assert read_runs(tmp_path)[-1].curve("train/loss") == [(9, 0.5)]
    assert not services()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An output folder whose `wandb` is a file system of 1 MiB."""
    with disk_in_memory(tmp_path / "wandb") as mount:
        mount("size=1M")
        yield tmp_path


@pytest.mark.parametrize("sends", ["pictures", "curves"])
def test_a_full_disk_ends_no_run(
    sends: str, small_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Pictures fail in our process, curves in W&B's, which says nothing until the end."""
    caplog.set_level(logging.WARNING)
    cfg = load_config("train", ["editor=mend", "experiment=demo", f"output_dir={small_disk}"])
    picture = Image.effect_noise((400, 400), 100)
    with open_loggers(cfg, small_disk, name="x") as (curves, wandb):
        assert isinstance(wandb, GuardedWandb)
        with pytest.raises(OSError, match="No space left"):
            (small_disk / "wandb" / "filler").write_bytes(bytes(2**20))
        for step in range(300):
            for logger in (curves, wandb):
                logger.log_metrics({f"train/loss_{n}": step * n for n in range(20)}, step)
            if sends == "pictures" and step % 100 == 0:
                wandb.log_image("picture", [picture])
        curves.finalize("success")
        assert wandb.lost == (sends == "pictures")
    (told,) = [text for text in caplog.messages if "W&B" in text]
    assert "W&B is off for the rest of this run" in told
    assert "No space left on device" in told
    assert len(pd.read_csv(small_disk / "metrics.csv")) == 300
    assert not services()
