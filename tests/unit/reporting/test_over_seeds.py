"""A row of several seeds in every part of a report: what its numbers are and how they are said."""

import csv
import io
import re
import statistics
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markdown_it import MarkdownIt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

import report
from metrics.bootstrap import Estimate
from metrics.seeds import difference_over_seeds
from reporting import blocks
from reporting.curves import curve_table
from reporting.document import build_report
from reporting.figures import edit_curves, grouped_bars, scenario_heat_map, table_picture
from reporting.formats import to_csv, to_latex, to_markdown
from reporting.gallery import read_gallery
from reporting.markdown import markdown_page
from reporting.naming import entries
from reporting.page import to_html
from reporting.pairs import Pair, paired_differences, paired_table
from reporting.sources import Sources
from reporting.style import look
from reporting.tables import cost_table, scenario_table
from reporting.transitivity import transitivity_gaps
from results.folder import RunResult
from tests.result_folders import make_answered, make_run, make_scored
from tests.unit.reporting.test_check import as_published

MEANS = (90.0, 84.5, 96.0)
ACCURACY = "reliability/token_accuracy"


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """LoRA with three seeds beside FT with one."""
    lora = [
        make_run(tmp_path / f"lora{seed}", "lora", means={"Reliability": mean}, seed=seed,
                 seconds_per_edit=0.1 * seed, answer_seconds_per_edit=1.0)
        for seed, mean in enumerate(MEANS)
    ]  # fmt: skip
    return [make_run(tmp_path / "ft", "ft", means={"Reliability": 90.4}), *lora]


def test_a_row_shows_the_mean_its_spread_and_the_number_of_seeds(runs: list[RunResult]) -> None:
    table = scenario_table(entries(runs), ["Reliability"])
    mean, sd = statistics.mean(MEANS), statistics.stdev(MEANS)
    assert to_markdown(table).splitlines()[:4] == [
        "| Model | Editor | n | Seeds | Reliability ↑ |",
        "| --- | --- | ---: | ---: | ---: |",
        "| llava_tiny | FT | 10 | 1 | **90.4** ± 3.0 |",
        f"| llava_tiny | LoRA | 10 | 3 | <u>{mean:.1f}</u> (SD {sd:.1f}) |",
    ]
    assert r" & LoRA & 10 & 3 & \underline{90.2} (SD 5.8)" in to_latex(table)
    assert r"\begin{tabular}{llrrr}" in to_latex(table)
    html = re.sub(r"\s+", " ", to_html(table))
    assert '<td class="number">3</td>' in html
    assert '<u>90.2</u> <span class="half">(SD 5.8)</span>' in html
    assert 'colspan="5"' in html
    assert "the standard deviation between them" in table.notes[0]
    assert "rows of one seed: ± half the 95 % interval" in table.notes[0]
    assert table.title.endswith("data world (percent)")  # the seeds are not the same in all rows


def test_csv_has_a_line_a_number_with_what_belongs_to_it(runs: list[RunResult]) -> None:
    none = make_run(runs[0].folder.parent / "none", "none", means={"Leak": None})
    lines = to_csv(scenario_table(entries([*runs, none]), ["Reliability", "Leak"])).splitlines()
    assert lines == [
        "model,editor,n,seeds,line,column,value,half_interval,sd,interval,mark,not_told_apart,"
        "not_told_from",
        "llava_tiny,Unedited,10,1,measured,Reliability,50.0,3.0,,,,,",
        "llava_tiny,Unedited,10,1,measured,Leak,,,,,,,",
        "llava_tiny,FT,10,1,measured,Reliability,90.4,3.0,,,best,,",
        "llava_tiny,FT,10,1,measured,Leak,50.0,3.0,,,best,,",
        "llava_tiny,LoRA,10,3,measured,Reliability,90.2,,5.8,,second,,",
        "llava_tiny,LoRA,10,3,measured,Leak,50.0,,0.0,,best,,",
    ]


def test_csv_keeps_quoted_figures_and_differences_apart(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a, b", "ft_as_run", "transitive", model="llava")
    rows = entries([run], {run.folder: 'say "FT", once'})
    found = list(csv.DictReader(io.StringIO(to_csv(scenario_table(rows)))))
    assert [line["line"] for line in found[::8]] == ["measured", "paper", "difference"]
    assert {line["editor"] for line in found[:8]} == {'say "FT", once'}
    assert found[8]["value"] == "99.3"
    assert (found[8]["n"], found[8]["seeds"]) == ("", "")


def test_without_several_seeds_a_table_is_as_it_was(runs: list[RunResult]) -> None:
    table = scenario_table(entries(runs[:2]), ["Reliability"])
    assert table.counts == ("n",)
    assert not table.notes
    assert table.title.endswith("data world, seed 0 (percent)")


def test_a_metric_that_one_seed_has_no_records_of_has_no_spread(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / str(seed), means={"Portability": mean}, seed=seed)
        for seed, mean in enumerate((40.0, None))
    ]
    table = scenario_table(entries(runs), ["Portability", "Leak"])
    assert "| 10 | 2 | 40.0 (SD -) | 50.0 (SD 0.0) |" in to_markdown(table)


def test_costs_are_means_with_their_spread(runs: list[RunResult]) -> None:
    table = cost_table(entries(runs))
    assert "| LoRA | 10 | 3 | - | 0.1 (SD 0.1) | 1 | 1.00 |" in to_markdown(table)
    assert table.notes[1].startswith("Rows of several seeds")


def test_the_papers_figures_stand_beside_the_mean(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / str(seed), "ft_as_run", "transitive", {"Reliability_S": mean},
                 model="llava", seed=seed)
        for seed, mean in enumerate((90.0, 99.0))
    ]  # fmt: skip
    rows = scenario_table(entries(runs)).rows
    assert [(row.heads[1], row.seeds) for row in rows] == [
        *(("FT (as run)", 2), ("FT (as run), paper", 0), ("FT (as run), difference", 0)),
    ]
    assert rows[2].cells[0].text == "-4.8"  # 94.5 - 99.3


def scored(folder: Path, editor: str, draws: Sequence[int], scenario: str = "unimodal",
           **changes: object) -> list[RunResult]:  # fmt: skip
    """A run a draw, each with scores of 40 records and the draw's place as its seed."""
    probe = "reliability" if scenario == "unimodal" else "reliability_s"
    values = [(np.random.default_rng(draw).integers(0, 4, 40) / 3).tolist() for draw in draws]
    return [
        make_scored(folder / f"{editor}{scenario}{seed}", editor, scenario,
                    {f"{probe}/token_accuracy": of_seed}, seed=seed, **changes)
        for seed, of_seed in enumerate(values)
    ]  # fmt: skip


def matrix(runs: Sequence[RunResult], draws: Sequence[int]) -> np.ndarray:
    return 100 * np.stack([np.random.default_rng(d).integers(0, 4, 40) / 3 for d in draws])


def test_rows_are_paired_over_records_and_seeds(tmp_path: Path) -> None:
    one, three = scored(tmp_path, "ft", [1]), scored(tmp_path, "lora", [2, 3, 4])
    pair = Pair("FT", "LoRA", "Reliability")
    found = paired_differences(entries([*one, *three]), [pair], seed=0)
    a, b = matrix(one, [1]), matrix(three, [2, 3, 4])
    assert found == {pair: difference_over_seeds(a, b, seed=0)}
    table = paired_table(entries([*one, *three]))
    assert table is not None
    assert "over records and seeds" in table.notes[1]
    plain = paired_table(entries([*one, *three[:1]]))
    assert plain is not None
    assert not any("seeds" in note for note in plain.notes)


def test_a_seed_without_its_table_of_edits_takes_the_row_out_of_the_pairs(tmp_path: Path) -> None:
    runs = [*scored(tmp_path, "ft", [1]), *scored(tmp_path, "lora", [2, 3])]
    (runs[-1].folder / "edits.parquet").unlink()
    assert paired_table(entries(runs)) is None


def test_gaps_pair_the_seeds_that_both_scenarios_share(tmp_path: Path) -> None:
    in_text = scored(tmp_path, "lora", [2, 3, 4])
    on_pictures = scored(tmp_path, "lora", [5, 6, 7], "transitive")
    a, b = matrix(in_text, [2, 3, 4]), matrix(on_pictures, [5, 6, 7])
    (gap,) = transitivity_gaps(entries([*in_text, *on_pictures]))
    assert (gap.seeds, gap.is_paired) == (3, True)
    assert gap.value == difference_over_seeds(a, b, seed=0, same_seeds=True)
    (gap,) = transitivity_gaps(entries([*in_text, *on_pictures[:2]]))
    assert gap.value == difference_over_seeds(a, b[:2], seed=0)


def test_gaps_are_of_rows_with_one_name(tmp_path: Path) -> None:
    runs = [
        run
        for lr in (1, 2)
        for scenario in ("unimodal", "transitive")
        for run in scored(tmp_path / str(lr), "ft", [lr], scenario, editor_options={"lr": lr})
    ]
    gaps = transitivity_gaps(entries(runs))
    assert [gap.name for gap in gaps] == ["FT (lr=1)", "FT (lr=2)"]
    assert [gap.is_paired for gap in gaps] == [True, True]


def curve(reliability: float) -> dict[str, object]:
    point = Estimate(reliability, reliability - 1, reliability + 1, 10).as_dict()
    return {"1": {"Reliability": point}, "10": {"Reliability": point}}


def test_curves_are_means_over_seeds(tmp_path: Path) -> None:
    protocol = {"name": "sequential", "n": [1, 10]}
    runs = [
        make_run(tmp_path / str(seed), "lora", protocol=protocol, curve=curve(mean), seed=seed)
        for seed, mean in enumerate((40.0, 60.0))
    ]
    table = curve_table(entries(runs))
    assert [
        (*row.heads[1:], row.seeds, row.cells[0].text, row.cells[0].sd) for row in table.rows
    ] == [
        ("LoRA", "1", 2, "50.0", "14.1"),
        ("LoRA", "10", 2, "50.0", "14.1"),
    ]
    assert table.title.endswith("data world, seed 0, 1 (percent)")
    files = edit_curves(entries(runs), tmp_path / "curves")
    assert all(path.stat().st_size > 3000 for path in files)


def test_bars_reach_one_standard_deviation_to_each_side(
    runs: list[RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[float, float]] = []

    def record(axis: Axes, centres: Any, heights: Any, *rest: Any, **style: Any) -> Any:
        below, above = style["yerr"][:, 0]
        drawn.append((heights[0] - below, heights[0] + above))
        return bar(axis, centres, heights, *rest, **style)

    bar = Axes.bar
    monkeypatch.setattr(Axes, "bar", record)
    files = grouped_bars(entries(runs), tmp_path / "bars")
    mean, sd = statistics.mean(MEANS), statistics.stdev(MEANS)
    assert drawn == [pytest.approx((88.4, 94.4)), pytest.approx((mean - sd, mean + sd))]
    files += scenario_heat_map(entries(runs), tmp_path / "heat")
    assert all(path.stat().st_size > 1000 for path in files)


def test_a_table_as_a_picture_counts_the_seeds_too(
    runs: list[RunResult], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: dict[tuple[int, int], Text] = {}

    def keep(figure: Figure, base: Path) -> list[Path]:
        cells = figure.axes[0].tables[0].get_celld()
        drawn.update({place: cell.get_text() for place, cell in cells.items()})
        return []

    monkeypatch.setattr("reporting.figures.save", keep)
    table_picture(scenario_table(entries(runs), ["Reliability", "Leak"]), tmp_path / "table")
    assert [drawn[0, column].get_text() for column in range(6)] == [
        *("Model", "Editor", "n", "Seeds", "Reliability ↑", "Leak ↓"),
    ]
    assert [drawn[2, column].get_text() for column in (2, 3, 4)] == ["10", "3", "90.2 (SD 5.8)"]
    assert drawn[1, 4].get_fontweight() == "bold"
    assert drawn[1, 3].get_fontweight() != "bold"


HOSTILE = "_$x$ & *y* | <b>z</b> `w` [u](v) \\alpha 100% {#}"


def test_a_label_is_text_in_every_format(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / name, "ft", protocol=protocol, curve=curve(50))
        for name, protocol in (("a", None), ("b", {"name": "sequential", "n": [1, 10]}))
    ]
    single, sequential = entries(runs, dict.fromkeys((run.folder for run in runs), HOSTILE))
    table = scenario_table([single])
    html = MarkdownIt("commonmark").enable("table").render(to_markdown(table))
    assert f"<td>{escape(HOSTILE, quote=False)}</td>" in html.replace("&quot;", '"')
    assert str(escape(HOSTILE)) in to_html(table)
    assert r"\_\$x\$ \& *y* | <b>z</b> `w` [u](v) \textbackslash{}alpha 100\% \{\#\} & 10" in (
        to_latex(table)
    )
    assert next(csv.DictReader(io.StringIO(to_csv(table))))["editor"] == HOSTILE
    for draw, of_row in (
        (grouped_bars, single), (scenario_heat_map, single), (edit_curves, sequential),
    ):  # fmt: skip
        assert draw([of_row], tmp_path / "figure")
    assert table_picture(table, tmp_path / "table")


def test_a_legend_shows_every_label(runs: list[RunResult], monkeypatch: pytest.MonkeyPatch,
                                    tmp_path: Path) -> None:  # fmt: skip
    shown: list[str] = []

    def keep(figure: Figure, base: Path) -> list[Path]:
        shown.extend(text.get_text() for text in figure.legends[0].get_texts())
        return []

    monkeypatch.setattr("reporting.figures.save", keep)
    labels = {runs[0].folder: "_hidden $5$", runs[1].folder: "LoRA once"}
    grouped_bars(entries(runs[:2], labels), tmp_path / "bars")
    assert shown == [r" _hidden \$5\$", "LoRA once"]


def test_rows_beyond_the_palette_look_different() -> None:
    looks = [look(number) for number in range(64)]
    assert len({(one.colour, one.hatch) for one in looks}) == 64
    assert len({(one.colour, one.marker) for one in looks}) == 64


def test_the_gallery_shows_the_first_seed_and_the_same_random_edits(tmp_path: Path) -> None:
    scores = {edit: {"reliability": 1.0} for edit in range(30)}
    lora = [make_answered(tmp_path / f"l{seed}", scores, "lora", seed=seed) for seed in (3, 4)]
    ft = make_answered(tmp_path / "ft", scores, "ft", seed=5)
    gallery = read_gallery(entries([*lora, ft]))
    assert [group.title for group in gallery.groups] == [
        *("LoRA on llava_tiny, unimodal", "FT on llava_tiny, unimodal"),
    ]
    (note,) = gallery.groups[0].notes
    assert note == f"Of the runs with seed 3, 4, the first: {lora[0].folder}."
    picked = [[case.edit_id for case in group.cases] for group in gallery.groups]
    assert picked[0] == picked[1]


def test_a_report_names_every_seed_and_setting(tmp_path: Path) -> None:
    lora = [make_run(tmp_path / f"l{s}", "lora", seed=s) for s in (0, 1)]
    ft = [
        make_run(tmp_path / f"f{lr}", "ft", editor_options={"name": "ft", "lr": lr})
        for lr in (1, 2)
    ]
    rows = entries([*lora, *ft])
    document = build_report(Sources(tuple(rows)))
    text = markdown_page(document)
    assert "data `world`, seed `0` (FT (lr=1), FT (lr=2)), seed `0, 1` (LoRA), data digest" in text
    assert (
        f"- unimodal, llava_tiny, ft: FT (lr=2), seed 0: `{tmp_path / 'f2'}`, `editor.lr=2`" in text
    )
    assert f"- unimodal, llava_tiny, lora, seed 1: `{tmp_path / 'l1'}`" in text
    captions = [block.caption for block in document.walk() if isinstance(block, blocks.Figure)]
    assert "with 95 % intervals, of several seeds one standard deviation over seeds" in captions[1]
    names = [block.name for block in document.walk() if isinstance(block, blocks.Figure)]
    assert len(names) == len(set(names)) > 1


def test_the_check_says_the_mean_and_each_seed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    for seed, off in enumerate((-3.5, 3.5, 0.3)):
        as_published(tmp_path / str(seed), off=off, seed=seed)
    assert report.main(["--check", *(str(tmp_path / str(seed)) for seed in range(3))]) == 0
    shown = capsys.readouterr().out
    assert "FT (as run): 1324 edits, mean over 3 seeds (SD" in shown
    line = next(line for line in shown.splitlines() if line.startswith("│ Stability"))
    cells = [cell.strip() for cell in line.strip("│").split("│")]
    ours = [float(number) for number in cells[6].split(", ")]
    assert cells[1] == f"{statistics.mean(ours):.1f} (SD {statistics.stdev(ours):.1f})"
    assert cells[5] == "pass"
    assert "5 of 5 cells pass" in shown
    for seed in range(3):
        assert str(tmp_path / str(seed)) in shown
