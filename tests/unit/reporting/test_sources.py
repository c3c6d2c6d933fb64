"""The folders of a report and the labels of its command line."""

from pathlib import Path

import pytest

import report
from errors import ConfigError, DataError
from reporting.sources import read_sources
from tests.result_folders import make_run, make_training


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two runs, a sweep over twelve seeds, and a training."""
    make_run(tmp_path / "ft", "ft")
    make_run(tmp_path / "mend", "mend")
    for seed in range(12):
        make_run(tmp_path / "sweep" / str(seed), "lora", seed=seed)
    make_training(tmp_path / "train")
    return tmp_path


def rows(*labels: str, folders: tuple[Path, ...] = ()) -> list[tuple[str, int]]:
    return [(e.name, len(e.runs)) for e in read_sources(folders, labels).entries]


def test_a_label_names_a_folder_a_sweep_or_a_pattern(root: Path) -> None:
    assert rows(f"slow={root}/ft") == [("slow", 1)]
    assert rows(f"all seeds={root}/sweep") == [("all seeds", 12)]
    assert rows(f"ten={root}/sweep/1*") == [("ten", 3)]
    assert rows(f"both={root}/[fm]*") == [("FT (both)", 1), ("MEND (both)", 1)]
    (entry,) = read_sources([], [f"x={root}/sweep"]).entries
    assert [run.seed for run in entry.runs] == list(range(12))


def test_labelled_folders_need_not_be_given_and_may_be(root: Path) -> None:
    given = (root / "ft", root / "mend", root / "sweep" / ".." / "ft")
    assert rows(f" slow  one ={root}/ft", folders=given) == [("slow one", 1), ("MEND", 1)]
    assert rows(f"slow={root}/ft", folders=given[1:2]) == [("MEND", 1), ("slow", 1)]


def test_names_and_folders_may_hold_equal_signs(root: Path) -> None:
    make_run(root / "lr=1,steps=2", "ft")
    assert rows(f"lr=1={root}/ft") == [("lr=1", 1)]
    assert rows(f"lr=1={root}/lr=1,steps=2") == [("lr=1", 1)]


def test_paths_of_a_label_are_those_of_a_shell(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.chdir(root)
    assert rows("a=~/ft", "b=mend", "c=swee?") == [("a", 1), ("b", 1), ("c", 12)]


def test_a_training_is_shown_under_its_label(root: Path) -> None:
    sources = read_sources([root / "ft"], [f"two steps={root}/train"])
    assert sources.labels == {root / "train": "two steps"}
    assert sources.training == (root / "train",)


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("slow", "expected is NAME=DIR"),
        ("=ft", "expected is NAME=DIR"),
        ("slow=", "expected is NAME=DIR"),
        ("slow=nowhere", "nowhere does not exist"),
        ("slow=no*where", "does not exist"),
        ("slow=empty", "empty holds no run"),
        ("slow=ft/summary.json", "holds no run"),
    ],
)
def test_labels_that_name_nothing_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, label: str, message: str
) -> None:
    (root / "empty").mkdir()
    monkeypatch.chdir(root)
    with pytest.raises(ConfigError, match=message) as told:
        read_sources([root / "mend"], [label])
    assert str(told.value).startswith(f"--label {label}: ")


def test_a_run_has_one_label(root: Path) -> None:
    with pytest.raises(ConfigError, match="is named both 'a' and 'b'"):
        read_sources([], [f"a={root}/ft", f"b={root}/[fm]*"])
    assert rows(f"a={root}/ft", f"a={root}/ft") == [("a", 1)]


def test_a_seed_that_was_not_finished_is_not_left_out_of_the_mean(root: Path) -> None:
    (root / "sweep" / "7" / "summary.json").unlink()
    (root / "sweep" / "7" / "partial").mkdir()
    with pytest.raises(DataError, match="sweep/7 holds a run that was not finished"):
        read_sources([], [f"x={root}/sweep"])


def test_the_command_takes_labels_alone(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert report.main(["--check", "--label", f"slow={root}/ft", "--label", f"x={root}/mend"]) == 1
    assert "Table 1 (unimodal), llava_tiny, slow: 10 edits" in capsys.readouterr().out
    assert report.main(["--check"]) == 2
    assert "RESULT_DIR is required" in capsys.readouterr().err
