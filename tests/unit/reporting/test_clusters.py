"""Intervals over clusters in tables, pairs, gaps and curves, and what is said of few targets."""

import math
from pathlib import Path

import numpy as np
import pytest

from errors import DataError
from metrics.bootstrap import Estimate, estimate, paired_difference, unpaired_difference
from metrics.concentration import Concentration
from metrics.seeds import difference_over_seeds
from reporting.chain import chain_splits, chain_table
from reporting.clusters import Clusters, cluster_notes, edits_of, target_notes
from reporting.console import result_table
from reporting.curves import curve_of
from reporting.document import build_report
from reporting.entries import Entry
from reporting.figures import grouped_bars
from reporting.naming import entries
from reporting.pairs import Pair, paired_differences, paired_table
from reporting.reading import gain_table, reading_table
from reporting.run_tables import run_markdown
from reporting.sources import Sources
from reporting.tables import scenario_table, seed_notes
from reporting.transitivity import gap_table, transitivity_gaps
from results.files import CURVE
from results.folder import CURVE_SCHEMA, RunResult, read_run
from results.writing import write_rows
from tests.result_folders import edit_row, make_run, make_scored, write_groups

N = 24
LABELS = [f"t{number // 6}" for number in range(N)]
ACCURACY = "reliability/token_accuracy"


def clustered(
    folder: Path, editor: str, scores: list[float], scenario: str = "unimodal", **changes: object
) -> RunResult:
    """A run of 24 edits of four targets, whose intervals draw targets."""
    probe = "reliability" if scenario == "unimodal" else "reliability_s"
    run = make_scored(
        folder, editor, scenario, {f"{probe}/token_accuracy": scores}, cluster="target", **changes
    )
    write_groups(folder, range(N), cluster=LABELS, target=LABELS)
    return run


def draws(seed: int) -> list[float]:
    """Scores that are alike within a cluster."""
    rng = np.random.default_rng(seed)
    return np.repeat(rng.integers(0, 4, 4) / 3, 6).tolist()


def test_pairs_and_ties_draw_the_clusters_of_their_records(tmp_path: Path) -> None:
    a, b = draws(1), draws(2)
    rows = entries([clustered(tmp_path / "a", "ft", a), clustered(tmp_path / "b", "mend", b)])
    pair = Pair("FT", "MEND", "Reliability")
    found = paired_differences(rows, [pair], seed=0)[pair]
    expected = paired_difference(100 * np.array(a), 100 * np.array(b), clusters=LABELS)
    assert found == expected
    assert found != paired_difference(100 * np.array(a), 100 * np.array(b))
    table = paired_table(rows)
    assert table is not None
    note = "Intervals are over targets: all edits of one target are drawn together"
    assert any(text.startswith(note) for text in table.notes)


def test_rows_of_several_seeds_draw_clusters_too(tmp_path: Path) -> None:
    runs = [clustered(tmp_path / f"a{s}", "ft", draws(s), seed=s) for s in (1, 2)]
    rows = entries([*runs, clustered(tmp_path / "b", "none", draws(3), seed=1)])
    pair = Pair("FT", "Unedited", "Reliability")
    a = 100 * np.array([draws(1), draws(2)])
    assert paired_differences(rows, [pair], seed=1)[pair] == difference_over_seeds(
        a, 100 * np.array([draws(3)]), seed=1, clusters=LABELS
    )


def test_gaps_draw_clusters_paired_or_not(tmp_path: Path) -> None:
    a, b = draws(1), draws(2)
    text = clustered(tmp_path / "text", "ft", a)
    pictures = clustered(tmp_path / "pictures", "ft", b, "transitive")
    (gap,) = transitivity_gaps(entries([text, pictures]))
    assert gap.value == paired_difference(100 * np.array(a), 100 * np.array(b), clusters=LABELS)
    table = gap_table([gap])
    assert table is not None
    assert "metrics.cluster=target" in " ".join(table.notes)
    later = clustered(tmp_path / "later", "ft", b, "transitive", first_edit=6)
    write_groups(tmp_path / "later", range(6, 6 + N), cluster=LABELS)
    (gap,) = transitivity_gaps(entries([text, later]))
    assert not gap.is_paired
    assert gap.value == unpaired_difference(
        100 * np.array(a), 100 * np.array(b), clusters=(LABELS, LABELS)
    )


def test_runs_that_draw_other_clusters_do_not_share_a_table(tmp_path: Path) -> None:
    by_target = clustered(tmp_path / "a", "ft", draws(1))
    by_record = make_scored(tmp_path / "b", "mend", "unimodal", {ACCURACY: draws(2)})
    with pytest.raises(DataError, match=r"cluster is '(target|record)' in .* but '"):
        scenario_table(entries([by_target, by_record]))
    labelled = [
        Entry("over targets", (by_target,), is_labelled=True),
        Entry("over records", (by_record,), is_labelled=True),
    ]
    notes = " ".join(scenario_table(labelled).notes)
    assert "Intervals of over targets are over targets" in notes
    assert "cluster is target (over targets) and record (over records)" in notes


def test_results_of_before_drew_records(tmp_path: Path) -> None:
    """`tests/before` does not say, and shares a table with one that says records."""
    before = read_run(Path(__file__).parents[2] / "before" / "result")
    assert (before.cluster, before.targets, before.fact("cluster")) == ("record", None, "record")
    assert edits_of(before)["target"].isna().all()
    new = make_scored(tmp_path, "mend", "unimodal", {ACCURACY: draws(1)})
    assert cluster_notes([Entry.of(before), Entry.of(new)]) == ()
    settings = {key: value for key, value in new.settings.items() if key != "cluster"}
    old = make_run(tmp_path / "old", "ft", n_edits=N)
    object.__setattr__(old, "settings", settings)
    assert scenario_table(entries([old, new])).rows


def test_a_result_that_does_not_say_which_edits_are_of_one_cluster_is_refused(
    tmp_path: Path,
) -> None:
    run = clustered(tmp_path, "ft", draws(1))
    write_groups(tmp_path, range(N - 1), cluster=LABELS[:-1])
    with pytest.raises(DataError, match=r"intervals over targets .* does not say for each edit"):
        Clusters(run)


def test_where_all_edits_are_of_one_cluster_there_is_no_interval(tmp_path: Path) -> None:
    """A dash in tables; the summary has null, and is read again."""
    alone = estimate([1.0, 0.5], scale=100, clusters=["a", "a"])
    run = make_run(tmp_path, "ft", cluster="target", n_edits=2)
    metrics = dict(run.metrics) | {"Reliability": alone}
    object.__setattr__(run, "metrics", metrics)
    (row,) = scenario_table(entries([run])).rows
    assert (row.cells[0].text, row.cells[0].half) == ("75.0", "-")
    markdown = run_markdown(run)
    assert "| Reliability ↑ | 75.0 | - | 2 |" in markdown
    assert "bootstrap intervals over targets (metrics.cluster)" in markdown
    columns = [str(column.header) for column in result_table(run).columns]
    assert columns == ["Metric", "%", "95 % over targets", "n"]


def test_means_without_an_interval_are_drawn_without_one(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", "ft", cluster="target")
    alone = {
        name: Estimate(value.mean, math.nan, math.nan, 3) for name, value in run.metrics.items()
    }
    object.__setattr__(run, "metrics", alone)
    files = grouped_bars(entries([run]), tmp_path / "bars")
    assert all(file.stat().st_size > 3000 for file in files)


def test_a_curve_without_numbers_is_made_of_its_clusters(tmp_path: Path) -> None:
    run = clustered(tmp_path, "ft", draws(1), protocol={"name": "sequential", "n": [N]})
    lines = [
        edit_row(edit_id=edit, value=value) | {"edits_in_place": N}
        for edit, value in enumerate(draws(1))
    ]
    write_rows(tmp_path / CURVE, CURVE_SCHEMA, lines)
    expected = estimate(100 * np.array(draws(1)), clusters=LABELS)
    assert curve_of(run)[N]["Reliability"] == expected


def few(**changes: object) -> dict[str, object]:
    """Where the records come from, with few targets behind them."""
    found = Concentration.of({"China": 10, **{f"t{number}": 1 for number in range(20)}})
    assert found is not None
    source = {"source": "tmke", "origin": "o", "licence": "l"}
    return {**source, "targets": found.as_dict() | changes}


def test_few_targets_are_told_in_tables_and_on_the_terminal(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", "ft", records=few())
    other = make_run(tmp_path / "b", "mend")
    assert target_notes(entries([run])) == (run.targets.warning("record"),)  # type: ignore[union-attr]
    (note,) = target_notes(entries([run, other]))
    assert note.startswith("Few targets: 30 edits teach 21 targets")
    assert note.endswith("together. (FT)")
    assert "Few targets: 30 edits" in run_markdown(run)
    assert "Few targets: 30 edits" in str(result_table(run).caption)
    assert target_notes(entries([other])) == ()
    assert read_run(tmp_path / "a").targets == run.targets


def test_gains_and_pictures_say_what_their_intervals_draw(tmp_path: Path) -> None:
    answers = {
        "reliability_s/token_accuracy": draws(1),
        "reliability_s/token_accuracy_before": [0.0] * N,
        "reliability_s/fact_before": [1.0] * N,
        "leak_same/token_accuracy": [0.0] * N,
        "leak_same/token_accuracy_before": [0.0] * N,
    }
    run = make_scored(tmp_path, "ft", "transitive", answers, cluster="target")
    write_groups(tmp_path, range(N), cluster=LABELS)
    for table in (gain_table(entries([run])), reading_table(entries([run]))):
        assert table is not None
        assert "Intervals are over targets" in " ".join(table.notes)
    several = [clustered(tmp_path / f"s{s}", "ft", draws(s), seed=s) for s in (0, 1)]
    (note,) = seed_notes(entries([*several, clustered(tmp_path / "one", "mend", draws(2))]))
    assert note.endswith("rows of one seed: ± half the 95 % interval over targets.")


def test_a_report_says_what_its_intervals_draw(tmp_path: Path) -> None:
    run = clustered(tmp_path, "ft", draws(1))
    report = build_report(Sources(tuple(entries([run])), (), {}))
    assert "bootstrap interval over targets. Per model" in str(report.blocks[0])
    assert run.metrics["Reliability"] != Estimate(0, 0, 0, 0)


def test_the_classes_of_pictures_draw_clusters(tmp_path: Path) -> None:
    """Six records of a cluster are recognised and carried, the others not recognised."""
    is_named = [float(number < 6) for number in range(N)]
    answers = {
        "reliability_s/exact_match": is_named,
        "reliability_s/exact_match_before": [0.0] * N,
        "reliability_s/named_before": is_named,
    }
    run = make_scored(tmp_path, "ft", "transitive", answers, cluster="target")
    write_groups(tmp_path, range(N), cluster=LABELS)
    (split, *_) = chain_splits(entries([run]))
    expected = estimate(is_named, scale=100, clusters=LABELS)
    assert split.shares["recognised and carried"] == expected
    table = chain_table([split])
    assert table is not None
    assert "over targets" in " ".join(table.notes)
