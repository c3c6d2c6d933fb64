"""Two data-parallel processes through the user's commands: they do what one process does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.e2e.commands import killed_after, run

pytestmark = [pytest.mark.e2e, pytest.mark.ddp, pytest.mark.slow]

NO_BAR = "trainer.enable_progress_bar=false"
# 11 steps of 2 batches of 4 edits, 4 steps an epoch; the 33 validation edits are an odd number of
# batches, and a batch has one-hop questions for some edits only.
TRAINING = (
    NO_BAR, "experiment=demo", "editor=mend", "editor.max_iterations=88",
    "editor.accumulate=2", "editor.weights.portability=0.1", "trainer.val_every=5",
    "trainer.log_every_n_steps=1", "evaluate.batch_size=8", "data.limit=33",
    "data.filter_known=none", "logger=csv", "logger.wandb=off",
)  # fmt: skip
FLOAT64 = "tests/e2e/train_in_float64.py"
# Two forks of one process. Lightning's own launcher, whose second process imports all libraries
# anew, starts `two`, an evaluation, and the training whose second process fails.
RANKS = ("tests/e2e/ranks.py", "torchrun")


@pytest.fixture(scope="module")
def world(world: Path) -> str:
    """As a word of the command line."""
    return f"data.root={world}"


@pytest.fixture(scope="module")
def one(world: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process with batches of 4."""
    folder = tmp_path_factory.mktemp("one") / "run"
    run(FLOAT64, *TRAINING, world, "editor.batch_size=4", f"output_dir={folder}")
    return folder


@pytest.fixture(scope="module")
def two(world: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two processes with batches of 2 each."""
    folder = tmp_path_factory.mktemp("two") / "run"
    options = ("trainer=ddp_cpu", "editor.batch_size=2")
    printed = run(FLOAT64, *TRAINING, world, *options, f"output_dir={folder}")
    said_once(printed, [f"{name} {folder}/checkpoints/{name}.ckpt" for name in ("best", "last")])
    return folder


def said_once(printed: str, lines: Sequence[str]) -> None:
    """The lines alone: no warning, and nothing that both processes say."""
    assert printed.split("\n") == [*lines, ""]


def weights(folder: Path, name: str = "last") -> dict[str, torch.Tensor]:
    stored = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return stored["state_dict"]


def test_two_processes_train_the_editor_that_one_trains(one: Path, two: Path) -> None:
    for name in ("best", "last"):
        expected, found = weights(one, name), weights(two, name)
        assert found.keys() == expected.keys()
        assert all(key.startswith("editor.") for key in found)
        counts = [key for key in found if key.endswith("count")]
        assert len(counts) == 2  # one for each shape of matrix
        for key, value in expected.items():
            if key in counts:
                assert torch.equal(found[key], value), key
            else:
                scale = float(value.abs().max())
                assert float((found[key] - value).abs().max()) <= 1e-8 * scale, key
    first, last = weights(two, "best"), weights(two)
    assert any(not torch.equal(value, first[key]) for key, value in last.items())


def test_two_processes_log_the_curves_that_one_logs(one: Path, two: Path) -> None:
    expected, found = (pd.read_csv(folder / "metrics.csv") for folder in (one, two))
    assert list(found.columns) == list(expected.columns)
    measured = found["train/loss"].dropna()
    assert len(measured) == 11
    assert found["val/loss"].count() == 2
    assert found["train/portability/loss"].count() > 8
    assert found["train/grad_norm"].min() > 0
    pd.testing.assert_frame_equal(found, expected, rtol=1e-8, atol=1e-10)


def test_a_continued_training_of_two_processes_equals_an_unbroken_one(
    two: Path, tmp_path: Path
) -> None:
    """From the middle of an epoch, under the cosine schedule."""
    best = two / "checkpoints" / "best.ckpt"
    assert torch.load(best, weights_only=True)["global_step"] in (5, 10)
    run(*RANKS, FLOAT64, f"ckpt={best}", "logger=none", f"output_dir={tmp_path / 'run'}")
    expected, found = weights(two), weights(tmp_path / "run")
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


def judged(folder: Path, *options: str, ranks: tuple[str, ...] = ()) -> tuple[dict, pd.DataFrame]:
    command = (*ranks, "evaluate.py", *options, NO_BAR, "logger=none")
    printed = run(*command, f"output_dir={folder}")
    assert printed.count("Written to") == 1
    assert "arn" not in printed.replace("learn", "")
    summary = json.loads((folder / "summary.json").read_text())
    return summary, pd.read_parquet(folder / "edits.parquet")


def spoil(batch: Path) -> None:
    """Puts other scores into a batch of an earlier run, so that it shows where they are taken."""
    table = pq.read_table(batch)
    place = table.schema.get_field_index("value")
    scores = pa.array([0.125] * len(table), table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), scores), batch)


def test_two_processes_judge_every_edit_once(two: Path, tmp_path: Path) -> None:
    """7 edits are 4 batches of at most 2, and 1 edit is less than there are processes."""
    common = (f"ckpt={two}/checkpoints/best.ckpt", "evaluate.batch_size=2")
    expected, alone = judged(tmp_path / "one", *common, "trainer=default", "data.limit=7")
    found, together = judged(tmp_path / "two", *common, "trainer=ddp_cpu", "data.limit=7")
    keys = ["edit_id", "probe", "metric"]
    assert not together.duplicated(keys).any()
    assert sorted(together.edit_id.unique()) == list(range(7))
    pd.testing.assert_frame_equal(together.drop(columns="seconds"), alone.drop(columns="seconds"))
    assert found["metrics"] == expected["metrics"]
    assert found["n_edits"] == expected["n_edits"] == 7
    assert found["seconds_per_edit"] == pytest.approx(
        together.groupby("edit_id").seconds.first().mean()
    )
    assert found["peak_memory_bytes"] > 0
    broken = (*common, NO_BAR, "logger=none", "data.limit=7", f"output_dir={tmp_path / 'broken'}")
    killed_after(2, tmp_path / "broken", *broken, "trainer=ddp_cpu", ranks=RANKS)
    shutil.copytree(tmp_path / "broken", tmp_path / "old")
    for path in (tmp_path / "old" / "partial").glob("[0-9]*.parquet"):
        spoil(path)
    run(
        *RANKS, "tests/e2e/evaluate_after_a_pause.py", *broken[:-1], "trainer=ddp_cpu",
        f"output_dir={tmp_path / 'old'}", "overwrite=true",
    )  # fmt: skip
    anew = pd.read_parquet(tmp_path / "old" / "edits.parquet")
    pd.testing.assert_frame_equal(anew.drop(columns="seconds"), alone.drop(columns="seconds"))
    run("evaluate.py", *broken, "resume=true", "trainer=default")
    resumed = pd.read_parquet(tmp_path / "broken" / "edits.parquet")
    pd.testing.assert_frame_equal(resumed.drop(columns="seconds"), alone.drop(columns="seconds"))
    lone, rows = judged(tmp_path / "lone", *common, "trainer=ddp_cpu", "data.limit=1", ranks=RANKS)
    assert lone["n_edits"] == lone["metrics"]["Reliability"]["n"] == 1
    first = alone[alone.edit_id == 0].drop(columns="seconds").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows.drop(columns="seconds"), first)


def test_two_processes_tell_what_was_read_as_one_does(world: str, tmp_path: Path) -> None:
    """3 edits are 2 batches; gains and parts are those of all edits in both, and so are names."""
    common = (
        "experiment=demo", "editor=ft", "editor.steps=3", "scenario=transitive", world,
        "data.filter_known=text", "data.limit=3", "evaluate.batch_size=2",
        "evaluate.name_first=true",
    )  # fmt: skip
    expected, alone = judged(tmp_path / "one", *common)
    found, together = judged(tmp_path / "two", *common, "trainer=ddp_cpu", ranks=RANKS)
    columns = ["edit_id", "probe", "metric", "pre_text", "pre_value", "named_before", "fact_before"]
    pd.testing.assert_frame_equal(together[columns], alone[columns])
    assert together.loc[together.probe == "reliability_s", "named_before"].notna().all()
    asked = [pd.read_parquet(tmp_path / name / "probes.parquet") for name in ("one", "two")]
    pd.testing.assert_frame_equal(*asked)
    chained = asked[0][asked[0].probe == "reliability_s_chain"]
    assert [
        said in question for said, question in zip(chained.said, chained.question, strict=False)
    ] == 3 * [1]
    assert found["variants"]["Recognition_S"]["n"] == 3
    assert found["settings"]["name_first"] is True
    assert found["variants"] == expected["variants"]
    assert found["variants"]["Reliability_S_gain"]["n"] == 3
    assert found["settings"]["known_facts"] == expected["settings"]["known_facts"]


@pytest.mark.parametrize(("rank", "ranks"), [(0, RANKS), (1, ())])
def test_an_error_in_one_process_ends_both(
    rank: int, ranks: tuple[str, ...], world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gloo alone would wait for 30 minutes, longer than `run` does."""
    monkeypatch.setenv("FAILING_RANK", str(rank))
    printed = run(
        *ranks, "tests/e2e/train_with_error.py", *TRAINING, world, "trainer=ddp_cpu",
        "editor.batch_size=2",
        f"output_dir={tmp_path / 'run'}", status=2,
    )  # fmt: skip
    assert printed.count("is broken.") == 1
    assert "Traceback" not in printed
    assert "another process of this run ended" not in printed  # that would be said by the first
