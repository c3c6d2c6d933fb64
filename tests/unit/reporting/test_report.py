"""Figures and the whole report, from folders to files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import report
from errors import DataError
from reporting.figures import (
    MAX_PANELS,
    grouped_bars,
    read_curves,
    scenario_heat_map,
    table_picture,
    training_curves,
)
from reporting.naming import entries
from reporting.tables import scenario_table
from tests.result_folders import edit_row, make_folder, make_run, make_training, write_edits

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two editors in two scenarios, and a training run."""
    root = tmp_path_factory.mktemp("runs")
    found = [
        make_folder(root / f"{editor}_{scenario}", editor, scenario)
        for scenario in ("transitive", "unimodal")
        for editor in ("mend", "none")
    ]
    return [*found, make_training(root / "train")]


@pytest.fixture(scope="module")
def output(folders: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of these folders."""
    output = tmp_path_factory.mktemp("reports") / "report"
    assert _call(folders, output) == 0
    return output


def _call(folders: list[Path], output: Path, *options: str) -> int:
    return report.main([*map(str, folders), "--output", str(output), *options])


def test_report_shows_all_it_was_given(folders: list[Path], output: Path) -> None:
    text = (output / "report.md").read_text()
    assert text.index("## Unimodal scenario") < text.index("## Transitive scenario")
    assert "data digest `d0`, prompt `default`, positions `answer`, locality i `top1`" in text
    assert "| unimodal | llava_tiny | MEND | 10 | - | 0.25 | 0.5 | 1.00 |" in text
    assert "### Beside the paper's columns" in text
    names = [
        *("unimodal_table", "unimodal_llava-tiny", "transitive_table", "transitive_llava-tiny"),
        *("scenarios_llava-tiny", "matrix_llava-tiny", "training_0_train"),
    ]
    for name in names:
        assert f"](figures/{name}.png)" in text
        assert (output / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (output / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name for path in output.iterdir()} == {
        *("report.md", "report.html", "tables", "figures"),
    }
    for path in (output / "figures").glob("*.png"):
        assert f"](figures/{path.name})" in text
    written = {path.name for path in (output / "tables").iterdir()}
    names = ["unimodal", "unimodal_further", "transitive", "transitive_further"]
    names += ["unimodal_exact_match", "transitive_exact_match", "unimodal_pairs", "matrix", "cost"]
    assert written == {f"{name}.{suffix}" for name in names for suffix in ("tex", "csv")}
    for folder in folders:
        assert str(folder) in text


@pytest.mark.slow
def test_report_is_reproducible(folders: list[Path], output: Path, tmp_path: Path) -> None:
    assert _call(folders, tmp_path) == 0
    files = [path for path in output.rglob("*") if path.is_file()]
    assert len(files) == 2 + 2 * 7 + 2 * 9
    for path in files:
        twin = tmp_path / path.relative_to(output)
        assert path.read_bytes() == twin.read_bytes(), path.name


def test_a_report_is_not_overwritten_unasked(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders, output = folders[:1], tmp_path / "report"
    output.mkdir()
    (output / "report.md").write_text("mine")
    assert _call(folders, output) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (output / "report.md").read_text() == "mine"
    assert _call(folders, output, "--overwrite") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"Written to {output / 'report.html'}"
    assert (output / "report.md").read_text() != "mine"


def test_runs_that_do_not_fit_stop_before_anything_is_written(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path / "odd", "ft", "unimodal", prompt="published")
    assert _call([*folders, tmp_path / "odd"], tmp_path / "report") == 2
    error = capsys.readouterr().err
    assert error.startswith(
        "error: These runs of the unimodal scenario cannot share a table: prompt"
    )
    assert error.count("\n") == 1
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", [None, "{", '{"editor": "ft"}'])
def test_broken_folders_are_one_paragraph(
    content: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "broken"
    if content is not None:
        folder.mkdir()
        (folder / "summary.json").write_text(content)
    assert _call([folder], tmp_path / "report") == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert str(folder / "summary.json") in error
    assert error.count("\n") == 1


def test_an_unknown_scenario_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_folder(tmp_path / "run")
    path = folder / "summary.json"
    path.write_text(path.read_text().replace('"unimodal"', '"textual"'))
    assert _call([folder], tmp_path / "report") == 2
    assert "Unknown scenario 'textual'" in capsys.readouterr().err


def test_training_runs_alone_are_no_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _call([make_training(tmp_path / "train")], tmp_path / "report") == 2
    assert "at least one folder that evaluate.py wrote" in capsys.readouterr().err


def test_output_that_is_a_file_is_refused(
    folders: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report").write_text("a file")
    assert _call(folders, tmp_path / "report") == 2
    assert "is a file" in capsys.readouterr().err


def test_heat_map_is_left_out_where_scenarios_do_not_compare(tmp_path: Path) -> None:
    make_run(tmp_path / "a", "ft", "unimodal")
    make_run(tmp_path / "b", "ft", "transitive", model_digest="m1")
    assert _call([tmp_path / "a", tmp_path / "b"], tmp_path / "report") == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert "No heat map for llava_tiny" in text
    assert not list((tmp_path / "report" / "figures").glob("scenarios_*"))


def test_report_runs_without_torch() -> None:
    code = "import sys, report; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_curves_are_the_losses_of_both_splits(tmp_path: Path) -> None:
    curves = read_curves(make_training(tmp_path / "train") / "metrics.csv")
    assert {name: set(splits) for name, splits in curves.items()} == {
        "loss": {"train", "val"},
        "nll": {"train", "val"},
        "kl": {"val"},
    }
    # Of the per-step and the per-epoch column of one loss the per-step one is drawn.
    assert len(curves["loss"]["train"]) == 80
    assert curves["loss"]["val"].to_dict() == {39: 1 / 40, 79: 1 / 80}


def test_a_scope_s_quality_stands_beside_the_losses(tmp_path: Path) -> None:
    names = [f"val/{kind}{n}/loss" for kind in "abc" for n in range(3)]
    names += ["val/scope/margin", "val/scope/recall", "val/scope/inside", "val/scope/precision"]
    rows = [",".join(["step", *names]), ",".join(["1", *["0.5"] * len(names)])]
    path = tmp_path / "metrics.csv"
    path.write_text("\n".join(rows))
    assert list(read_curves(path))[-3:] == ["scope/precision", "scope/recall", "scope/margin"]
    assert len(read_curves(path)) == MAX_PANELS


def test_curves_go_into_the_folder_by_default(tmp_path: Path) -> None:
    folder = make_training(tmp_path / "train")
    assert training_curves(folder) == [folder / "curves.png", folder / "curves.pdf"]
    assert (folder / "curves.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        ("", "cannot be read as CSV"),
        ("step,lr\n1,0.1\n", "holds no curve"),
        ("step,train/loss\n1,\n", "holds no curve"),
    ],
)
def test_broken_logs_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "metrics.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        training_curves(tmp_path)


def test_figures_take_metrics_without_records(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / scenario, "ft", scenario, {"Portability": None})
        for scenario in ("unimodal", "multimodal")
    ]
    for files in (
        grouped_bars(entries(runs[:1]), tmp_path / "bars"),
        scenario_heat_map(entries(runs), tmp_path / "heat"),
        table_picture(scenario_table(entries(runs[:1])), tmp_path / "table"),
    ):
        assert [path.suffix for path in files] == [".png", ".pdf"]
        assert all(path.stat().st_size > 1000 for path in files)


def test_names_are_drawn_and_written_as_they_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], recwarn: pytest.WarningsRecorder
) -> None:
    name = "[b]a[/b] $x$ :star: 🥚|<i>_"
    folder = tmp_path / "[/red] é=1"
    make_run(folder, "ft", model=name, data=name)
    write_edits(folder, [edit_row()])
    assert report.main([str(folder), "--check", "--output", str(tmp_path / "[x]")]) == 1
    shown = capsys.readouterr().out
    assert "".join(str(folder).split()) in "".join(shown.split())  # lines break at blanks
    assert shown.endswith(f"Written to {tmp_path}/[x]/report.html\n")
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
    text = (tmp_path / "[x]/report.md").read_text()
    rule, row = text.partition("| ---")[2].splitlines()[:2]
    assert row.startswith("| \\[b\\]a")
    assert row.count(" | ") == rule.count(" | ")


def test_a_title_is_no_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles = []
    monkeypatch.setattr("reporting.figures.save", lambda figure, base: titles.append(figure))
    runs = [make_run(tmp_path / e, e, model="$\\frac$") for e in ("mend", "ft")]
    grouped_bars(entries(runs), tmp_path / "bars")
    table_picture(scenario_table(entries(runs)), tmp_path / "table")
    for figure in titles:
        figure.draw_without_rendering()  # a formula that cannot be read would end it


def test_what_cannot_be_written_into_a_report_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(tmp_path / "cafe").rename(os.fsdecode(b"caf\xe9"))
    make_folder(Path("run"))
    broken = make_folder(Path("broken"))
    (broken / "summary.json").write_text("[" * 100_000)
    for words, part in [
        (["--label", "a=caf*"], "bytes that are no UTF-8"),
        (["--label", "\udce9=run"], "bytes that are no UTF-8"),
        (["broken"], "summary.json cannot be read as JSON"),
    ]:
        assert report.main([*words, "--output", "r"]) == 2
        assert part in capsys.readouterr().err
    with pytest.raises(SystemExit):
        report.main(["run", "--output", "x" * 300])
    assert not Path("r").exists()
    assert report.main(["run", "--output", "\udce9"]) == 0, "it is written in no file"


def test_a_folder_called_like_the_home_folder_is_not_taken_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("~", "s3:", "http:"):
        make_folder(tmp_path / name)
        assert report.main([f"./{name}", "--check"]) == 1, "its figures are not the paper's"
    make_folder(tmp_path / "home/run", "ft")
    assert report.main(["~/run", "--label", "a=~/run", "--check"]) == 1
