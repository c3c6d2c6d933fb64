"""How processes that belong together begin and end, whoever has started them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import environment, run

pytestmark = [pytest.mark.e2e, pytest.mark.ddp]

GROUP = "tests/e2e/in_a_group.py"
WORDS = ("experiment=demo", "editor=mend", "trainer=ddp_cpu")


def in_ranks(launcher: str, *words: str, status: int = 0, script: str = GROUP) -> str:
    """Runs a command in two processes that were started from outside; both end with a status."""
    printed = run("tests/e2e/ranks.py", launcher, script, *words, status=status)
    assert f"rank 0 ended with {status}\nrank 1 ended with {status}\n" in printed, printed
    return printed


@pytest.mark.parametrize("launcher", ["torchrun", "srun"])
def test_ranks_started_outside_take_the_folder_of_the_first(
    launcher: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACTS", "barrier barrier")
    words = [f"{rank}:output_dir={tmp_path / str(rank)}" for rank in (0, 1)]
    printed = in_ranks(launcher, *WORDS, *words)
    assert sorted(printed.splitlines()[:2]) == [f"{rank} {tmp_path / '0'}" for rank in (0, 1)]


def test_ranks_with_different_settings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACTS", "barrier barrier")
    printed = in_ranks("srun", *WORDS, "1:seed=7", "1:editor.lr=0.5", status=2)
    assert printed.count("error:") == 1
    said = " ".join(printed.split())
    assert "seed is 0 in rank 0 and 7 in rank 1" in said
    assert "editor.lr is 0.001 in rank 0 and 0.5 in rank 1" in said


def test_a_folder_that_is_taken_is_refused_to_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first process alone looks, and the others waited for it."""
    (tmp_path / "summary.json").touch()
    monkeypatch.setenv("ACTS", "barrier barrier")
    printed = in_ranks("srun", *WORDS, f"output_dir={tmp_path}", status=2)
    assert printed.count("already holds a run") == 1


FAILS = {
    "error barrier": (2, "error: record 7 is broken."),
    "barrier error": (2, "error: record 7 is broken."),
    "error asleep": (2, "error: record 7 is broken."),
    "asleep error": (2, "error: record 7 is broken."),
    "error error": (2, "error: record 7 is broken."),
    "last end": (2, "error: the disk is full."),
    "asleep bug": (1, "ZeroDivisionError: a bug"),
    "stopped asleep": (143, "stopped by SIGTERM"),
    "asleep stopped": (143, "stopped by SIGTERM"),
    "stopped stopped": (143, "stopped by SIGTERM"),
}
VANISHES = {"asleep killed": 1, "barrier killed": 1, "killed asleep": 0, "killed barrier": 0}
Ends = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """How pairs of processes end, by what both do."""
    file = tmp_path_factory.mktemp("groups") / "ends.json"
    run("tests/e2e/many_groups.py", file, *FAILS, *VANISHES)
    found: Ends = json.loads(file.read_text())
    return found


@pytest.mark.parametrize("acts", FAILS)
def test_a_process_that_fails_ends_all_with_its_message_and_status(acts: str, ends: Ends) -> None:
    status, says = FAILS[acts]
    printed = ends[acts]["printed"]
    assert ends[acts]["statuses"] == [status, status], printed
    assert printed.count(says) == 1, printed
    assert "another process" not in printed
    assert printed.count("Traceback") == (status == 1), printed


@pytest.mark.parametrize("acts", VANISHES)
def test_a_process_that_is_killed_without_a_word_ends_all(acts: str, ends: Ends) -> None:
    lost, printed = VANISHES[acts], ends[acts]["printed"]
    assert ends[acts]["statuses"][lost] == -9
    assert ends[acts]["statuses"][1 - lost] == 2, printed
    assert printed.count(f"another process of this run ended (rank {lost})") == 1
    assert "want of memory" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("acts", "status", "says"),
    [
        ("asleep full", 2, "give the job more memory"),
        ("asleep stopped", 143, "stopped by SIGTERM"),
    ],
)
def test_a_command_says_once_how_its_processes_ended(
    acts: str, status: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACTS", acts)
    assert in_ranks("torchrun", *WORDS, status=status).count(says) == 1


def test_what_a_farm_has_left_in_the_environment_is_no_rank(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a run had no config.yaml and no curves, and replaced a finished run unasked."""
    for name, value in {"RANK": "3", "LOCAL_RANK": "1", "SLURM_PROCID": "5"}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "run"
    words = (
        "train.py", "experiment=demo", "editor=mend", "data.limit=8", "trainer.max_steps=1",
        "logger=csv", f"data.root={world}", f"output_dir={folder}",
    )  # fmt: skip
    assert "last.ckpt" in run(*words)
    assert (folder / "config.yaml").is_file()
    assert (folder / "metrics.csv").is_file()
    assert "already holds a run" in run(*words, status=2)


def test_commands_of_tests_see_no_gpu() -> None:
    assert environment()["CUDA_VISIBLE_DEVICES"] == ""
