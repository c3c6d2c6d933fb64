"""The user's commands, end to end: train, evaluate, report, resume, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from tests.e2e.commands import ROOT, SHARED, run

pytestmark = pytest.mark.e2e
SCENARIOS = ("unimodal", "transitive", "multimodal", "reverse", "joint")
IN_TEXT = ("unimodal", "reverse")
UNIMODAL = {"Reliability", "Generality", "Portability", "Locality", "Stability"}
PICTURES = {
    "Reliability_S", "Reliability_U", "Generality_S", "Generality_U", "Portability", "Locality_T",
    "Locality_I", "Stability",
}  # fmt: skip
BESIDE = {"Stability_same", "Stability_diff", "Leak"}
BOTH = {"Reliability_T", "Generality_T", "Portability_T", "Stability_T"}


def summary(folder: Path) -> dict:
    return json.loads((folder / "summary.json").read_text())


def test_training_leaves_what_the_contract_names(mend_on_llava: Path) -> None:
    for name in ("checkpoints/best.ckpt", "checkpoints/last.ckpt", "config.yaml", "metrics.csv"):
        assert (mend_on_llava / name).is_file(), name
    curves = pd.read_csv(mend_on_llava / "metrics.csv")
    assert {"train/loss", "val/loss", "val/generality", "val/locality"} <= set(curves)
    assert curves["val/loss"].count() == 2
    assert list((mend_on_llava / "wandb").glob("offline-run-*")), (
        "the W&B run lies beside the results"
    )
    stored = torch.load(mend_on_llava / "checkpoints" / "last.ckpt", weights_only=True)
    assert stored["global_step"] == 6
    assert all(key.startswith("editor.") for key in stored["state_dict"])
    assert stored["config"]["editor"]["name"] == "mend"


@pytest.fixture(scope="module")
def judged(mend_on_llava: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The checkpoint in all scenarios by one command: the folder of results, what was printed."""
    folder = tmp_path_factory.mktemp("judged")
    printed = run(
        "evaluate.py", "-m", f"ckpt={mend_on_llava}/checkpoints/best.ckpt",
        f"scenario={','.join(SCENARIOS)}", "data.limit=6", "logger=none", f"output_dir={folder}",
    )  # fmt: skip
    return folder, printed


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_checkpoint_is_judged_in_every_scenario(judged: tuple[Path, str], scenario: str) -> None:
    root, printed = judged
    folder = root / str(SCENARIOS.index(scenario))
    found = summary(folder)
    assert (found["editor"], found["model"], found["scenario"]) == ("mend", "llava_tiny", scenario)
    headline = UNIMODAL if scenario in IN_TEXT else PICTURES
    headline = headline | BOTH if scenario == "joint" else headline
    assert headline | BESIDE <= set(found["metrics"])
    assert {f"{name}_EM" for name in headline if not name.startswith("Loc")} <= set(
        found["metrics"]
    )
    first = "Reliability" if scenario in IN_TEXT else "Reliability_S"
    taught = pd.read_parquet(folder / "probes.parquet").query("probe.str.startswith('edit')")
    assert list(taught.probe) == (["edit", "edit_2"] if scenario == "joint" else ["edit"]) * 6
    shows = {"unimodal": "-", "transitive": "-", "joint": "-P"}.get(scenario, "P")
    assert "".join("P" if shown else "-" for shown in taught.image.notna()) == shows * 6
    assert found["metrics"][first]["n"] == found["n_edits"] == 6
    assert found["records"]["check"]["records"] == 6
    assert "answers to teach" in (folder / "log.txt").read_text()
    assert first in printed
    edits = pd.read_parquet(folder / "edits.parquet")
    assert list(edits.columns) == [
        "edit_id", "subject", "probe", "metric", "value", "pre_text", "post_text", "target",
        "seconds", "pre_value", "named_before", "fact_before",
    ]  # fmt: skip
    gain = found["variants"][f"{first}_gain"]
    assert gain["n"] == 6
    shown = edits[edits.probe == first.lower()]
    assert shown["named_before"].notna().all() == (scenario not in IN_TEXT)
    assert edits["fact_before"].notna().any() == (scenario not in IN_TEXT)
    scored = edits[(edits.probe == first.lower()) & (edits.metric == "token_accuracy")]
    assert scored.value.mean() * 100 == pytest.approx(found["metrics"][first]["mean"])
    assert sorted(scored.edit_id) == list(range(6))
    assert (folder / "table.md").read_text().startswith("# MEND")
    training = found["settings"]["training"]  # with it a report tells seeds from other settings
    assert (training["seed"], training["scenario"]["name"]) == (0, "unimodal")
    assert training["data"]["limit"] != 6, "the evaluation's"
    assert not {"root", "num_workers"} & set(training["data"])


def test_training_free_editors_and_the_report(world: Path, tmp_path: Path) -> None:
    run(
        "evaluate.py", "-m", "experiment=demo", "editor=none,ft", "model=llava_tiny",
        "scenario=unimodal", f"data.root={world}", "data.limit=8", "logger=none",
        "metrics.cluster=subject", f"output_dir={tmp_path}",
    )  # fmt: skip
    none, ft = summary(tmp_path / "0"), summary(tmp_path / "1")
    assert none["metrics"]["Locality"]["mean"] == 100
    assert none["metrics"]["Reliability_EM"]["mean"] == 0
    assert ft["metrics"]["Reliability"]["mean"] > none["metrics"]["Reliability"]["mean"] + 50
    assert ft["settings"]["data_digest"] == none["settings"]["data_digest"]
    assert ft["settings"]["cluster"] == "subject"
    asked = pd.read_parquet(tmp_path / "1" / "probes.parquet")
    edits = asked[asked.probe == "edit"].set_index("edit_id")
    subjects = pd.read_parquet(tmp_path / "1" / "edits.parquet").groupby("edit_id")["subject"]
    assert edits["cluster"].tolist() == subjects.first().str.casefold().tolist()
    assert edits[["relation", "target"]].notna().all(axis=None)
    assert asked[asked.probe != "edit"][["relation", "target", "cluster"]].isna().all(axis=None)
    assert ft["records"]["targets"]["targets"] == edits["target"].nunique()
    run("report.py", tmp_path / "0", tmp_path / "1", "--output", tmp_path / "report")
    report = (tmp_path / "report" / "report.md").read_text()
    assert "Unedited" in report
    assert "95 % bootstrap interval over subjects" in report
    assert "FT" in report


def test_a_continued_training_equals_an_unbroken_one(continued: Path, mend_on_llava: Path) -> None:
    folders = (continued, mend_on_llava)
    broken, unbroken = (
        torch.load(path / "checkpoints" / "last.ckpt", weights_only=True) for path in folders
    )
    assert broken["global_step"] == unbroken["global_step"] == 6
    for name, value in unbroken["state_dict"].items():
        assert torch.equal(value, broken["state_dict"][name]), name
    curves = [pd.read_csv(path / "metrics.csv") for path in folders]
    losses = [c.dropna(subset=["val/loss"]).set_index("step")["val/loss"] for c in curves]
    assert losses[0].iloc[-1] == losses[1].iloc[-1]
    steps = [c.dropna(subset=["train/loss"])["step"].tolist() for c in curves]
    assert steps[0] == steps[1] == list(range(6))


def test_a_run_is_not_overwritten(mend_on_llava: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in mend_on_llava.rglob("*") if p.is_file()}
    printed = run(
        "train.py", "experiment=demo", "editor=mend", f"output_dir={mend_on_llava}", status=2
    )  # fmt: skip
    assert "already holds a run" in printed
    assert "overwrite=true" in printed
    assert {p: p.stat().st_mtime_ns for p in mend_on_llava.rglob("*") if p.is_file()} == before


def test_a_training_without_logger_ends_with_a_best_checkpoint(world: Path, tmp_path: Path) -> None:
    """Five edits, two batches to a step: the odd one out is left for the next epoch."""
    run(
        "train.py", "experiment=demo", "editor=mend", f"data.root={world}", "data.limit=5",
        "editor.batch_size=1", "editor.accumulate=2", "editor.max_iterations=5",
        "trainer.val_every=null", "logger=none", f"output_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert sorted(file.name for file in (tmp_path / "run" / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
    ]
    assert not (tmp_path / "run" / "metrics.csv").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("data.seed=1",), "was trained on"),
        (("editor.sign=published",), "sign is descent there and published here"),
        (("trainer.strategy=foo",), "trainer.strategy"),
    ],
)
def test_a_checkpoint_is_held_to_what_it_was_trained_as(
    mend_on_llava: Path, tmp_path: Path, options: tuple[str, ...], says: str
) -> None:
    printed = run(
        "evaluate.py", f"ckpt={mend_on_llava}/checkpoints/best.ckpt", *options,
        f"output_dir={tmp_path / 'out'}", status=2,
    )  # fmt: skip
    assert says in printed
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


def test_a_result_on_what_was_trained_on_says_so(mend_on_llava: Path, tmp_path: Path) -> None:
    printed = run(
        "evaluate.py", f"ckpt={mend_on_llava}/checkpoints/best.ckpt", "data.seed=1",
        "data.allow_overlap=true", "data.limit=12", "logger=none", f"output_dir={tmp_path}/out",
    )  # fmt: skip
    shared = summary(tmp_path / "out")["records"]["overlap"]
    assert (shared["with"], shared["is_read"], shared["of"]) == ("checkpoint", True, 12)
    assert 0 < shared["subject"]["n"] <= shared["edits"]
    said = f"{shared['edits']} of 12 edits overlap with the checkpoint's training"
    assert said in " ".join(printed.split())
    assert "data.allow_overlap=true: ckpt=" in printed
    run("report.py", tmp_path / "out", "--output", tmp_path / "report")
    report = (tmp_path / "report" / "report.md").read_text()
    assert "MEND (overlap)" in report
    assert said in report


def test_overwriting_never_removes_what_is_not_a_run(world: Path, tmp_path: Path) -> None:
    mine = tmp_path / "checkpoints" / "mine.txt"
    mine.parent.mkdir()
    mine.write_text("precious")
    printed = run(
        "evaluate.py", "experiment=demo", "editor=none", f"data.root={world}",
        f"output_dir={tmp_path}", "overwrite=true", status=2,
    )  # fmt: skip
    assert "may not be a run's" in printed
    assert mine.read_text() == "precious"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("editor=ft", "model.path=nowhere/at/all"), "no such folder"),
        (("editor=ft", "data=folder", "data.root=nowhere"), "nowhere"),
        (("editor=ft", "data.limi=3", "trainer.devices=many"), "data.limi"),
        (("editor=mend",), "ckpt"),
        (("ckpt=nothing.ckpt",), "nothing.ckpt"),
    ],
)
def test_bad_input_is_one_paragraph(
    options: tuple[str, ...], says: str, world: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    root = () if any("data.root" in option for option in options) else (f"data.root={world}",)
    printed = run("evaluate.py", *options, *root, f"output_dir={folder}", status=2)
    assert says in printed
    assert "Traceback" not in printed
    assert not folder.exists()


def test_a_checkpoint_of_another_base_model_is_refused(
    mend_on_llava: Path, world: Path, tmp_path: Path
) -> None:
    other = tmp_path / "model"
    source = ROOT / "models" / "pretrained" / "llava_tiny"
    other.mkdir()
    for file in source.iterdir():
        if file.name not in ("manifest.json", "model.safetensors"):
            (other / file.name).write_bytes(file.read_bytes())
    from safetensors.torch import load_file, save_file

    weights = load_file(source / "model.safetensors")
    changed = {name: value * 1.5 for name, value in weights.items()}
    save_file(changed, other / "model.safetensors", metadata={"format": "pt"})
    printed = run(
        "evaluate.py", f"ckpt={mend_on_llava}/checkpoints/best.ckpt", f"model.path={other}",
        f"data.root={world}", f"output_dir={tmp_path / 'out'}", status=2,
    )  # fmt: skip
    assert "fingerprint" in printed
    assert "Traceback" not in printed


tmke = pytest.mark.skipif(
    not (SHARED / "data" / "tmke").is_dir(), reason=f"no TMKE records at {SHARED}/data/tmke"
)


@tmke
def test_the_benchmarks_own_records(tmp_path: Path) -> None:
    root = SHARED / "data" / "tmke"
    common = ("experiment=demo", "editor=ft", "model=llava_tiny", "data=tmke", f"data.root={root}")
    first = ("scenario=unimodal", "data.limit=16", "logger=none")  # of 60 that are read
    run("evaluate.py", *common, *first, f"output_dir={tmp_path / 'a'}")
    found = summary(tmp_path / "a")
    assert found["n_edits"] == 16
    assert found["metrics"]["Reliability"]["mean"] > 10  # 0 unedited; 50 steps spell few letters
    for scenario in ("transitive", "multimodal"):
        printed = run(
            "evaluate.py", *common, f"scenario={scenario}", f"output_dir={tmp_path / 'b'}", status=2
        )  # fmt: skip
        assert "pictures, and" in printed
        assert "of them are not in" in printed
        assert not (tmp_path / "b").exists()
