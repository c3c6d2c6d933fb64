"""Scores by record, differences of editors on the same records, and what tables make of them."""

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from errors import DataError
from metrics.bootstrap import Estimate, paired_difference
from metrics.headlines import HEADLINES, READ_BEFORE, headlines_of, record_means, variants_of
from reporting.formats import APART, BEST, PLAIN, plain_text, to_latex, to_markdown
from reporting.naming import entries
from reporting.pairs import (
    Pair,
    difference_cell,
    excludes_zero,
    paired_differences,
    paired_table,
    record_scores,
    scores_by_record,
)
from reporting.tables import scenario_table
from results.files import PROBES
from results.folder import PROBE_SCHEMA, RunResult, read_edits
from results.writing import write_rows
from tests.result_folders import edit_row, make_run, make_scored, probe_row, write_edits

N = 40
ACCURACY = "reliability/token_accuracy"


def draws(seed: int, n: int = N) -> list[float]:
    """Scores of records, in thirds."""
    return (np.random.default_rng(seed).integers(0, 4, n) / 3).tolist()


def scored(folder: Path, editor: str, draw: int, **changes: object) -> RunResult:
    """A run with three metrics; half of its records have a one-hop question."""
    scores: dict[str, Sequence[float | None]] = {
        ACCURACY: draws(draw),
        "portability/token_accuracy": [
            value if number % 2 else None for number, value in enumerate(draws(draw + 1))
        ],
        "locality_far/token_agreement": draws(draw + 2),
        "locality_near/token_agreement": [
            value if number % 3 else None for number, value in enumerate(draws(draw + 3))
        ],
        "locality_far/token_agreement_positional": draws(draw + 4),
        "reliability/token_accuracy_before": draws(draw + 7),
        "leak_same/token_accuracy": [
            value if number % 5 else None for number, value in enumerate(draws(draw + 9))
        ],
        "leak_same/token_accuracy_before": draws(draw + 11),
        "stability_same/exact_match": draws(draw + 5),
        "stability_diff/exact_match": draws(draw + 6),
    }
    return make_scored(folder, editor, "unimodal", scores, **changes)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    return [
        scored(tmp_path / name, name, 10 * number)
        for number, name in enumerate(("mend", "none", "ft"))
    ]


def by_probe(run: RunResult) -> dict[tuple[str, str], dict[int, float]]:
    """The long table as `record_means` takes it."""
    long = read_edits(run.folder).dropna(subset=["value"])
    scores: dict[tuple[str, str], dict[int, float]] = {}
    for (probe, measure), part in long.groupby(["probe", "metric"]):
        told = {str(measure): "value", f"{measure}_before": "pre_value"}
        for name, column in (told | {flag: flag for flag in READ_BEFORE}).items():
            values = part.dropna(subset=[column])
            of_edits = dict(zip(values["edit_id"], values[column].astype(float), strict=True))
            scores.setdefault((str(probe), name), {}).update(of_edits)
    return scores


def test_scores_of_records_are_those_of_the_evaluation(runs: list[RunResult]) -> None:
    for run in runs:
        table, expected = record_scores(run), by_probe(run)
        assert table is not None
        assert {"Reliability", "Portability", "Locality", "Stability_EM"} <= set(table)
        assert {"Specificity", "Reliability_gain", "Specificity_gain"} <= set(table)
        for line in (*HEADLINES["unimodal"], *variants_of("unimodal", HEADLINES["unimodal"])):
            means = record_means(expected, line)
            if not means:
                assert line.name not in table
                continue
            found = table[line.name].dropna()
            assert found.index.to_list() == list(means)
            assert found.to_numpy() == pytest.approx(100 * np.array(list(means.values())))
            of_run = run.variants if line.over else run.metrics
            assert found.mean() == pytest.approx(of_run[line.name].mean)


def test_parts_are_of_the_edited_subjects_picture(tmp_path: Path) -> None:
    scores: dict[str, Sequence[float | None]] = {
        "reliability_s/token_accuracy": draws(1),
        "reliability_s/token_accuracy_before": draws(2),
        "reliability_s/named_before": [float(value > 0.5) for value in draws(3)],
        "leak_same/token_accuracy": draws(4),
        "leak_same/token_accuracy_before": draws(5),
        "leak_same/named_before": [float(value > 0.5) for value in draws(6)],
        "leak_diff/token_accuracy": draws(7),
        "leak_diff/token_accuracy_before": draws(8),
    }
    run = make_scored(tmp_path, "ft", "transitive", scores)
    table, expected = record_scores(run), by_probe(run)
    assert {"Specificity_S_named", "Specificity_S_unnamed", "Specificity_S_gain"} <= set(table)
    for line in variants_of("transitive", HEADLINES["transitive"]):
        means = record_means(expected, line)
        assert (line.name in table) == bool(means), line.name
        if means:
            found = table[line.name].dropna()
            assert found.index.to_list() == list(means), line.name
            assert found.to_numpy() == pytest.approx(100 * np.array(list(means.values())))


def test_the_settings_say_which_measure_makes_a_locality(tmp_path: Path) -> None:
    scores = {
        "locality_i_far/token_agreement": [1.0, 1.0],
        "locality_i_far/token_agreement_positional": [0.0, 0.5],
        "locality_i_far/token_agreement_positional_everywhere": [0.25, 0.25],
    }
    expected = {("top1", "answer"): 100, ("top10_rank", "answer"): 25, ("top10_rank", "all"): 25}
    means = {}
    for kind, positions in expected:
        run = make_scored(
            tmp_path / f"{kind}{positions}", "ft", "transitive", scores,
            locality_i=kind, positions=positions,
        )  # fmt: skip
        table = record_scores(run)
        assert table is not None
        means[kind, positions] = table["Locality_I"].to_list()
    assert means == {
        ("top1", "answer"): [100, 100],
        ("top10_rank", "answer"): [0, 50],
        ("top10_rank", "all"): [25, 25],
    }


def test_portability_is_split_by_hops_where_edits_differ_in_them(tmp_path: Path) -> None:
    run = make_scored(tmp_path, "ft", "unimodal", {"portability/token_accuracy": [1.0, 0.5, 0.0]})
    rows = [
        probe_row(edit_id=edit, probe=probe, hops=hops)
        for edit, hops in enumerate([1, 2, 2])
        for probe in ("portability", "reliability")
    ]
    write_rows(tmp_path / PROBES, PROBE_SCHEMA, rows)
    table = record_scores(run)
    assert table is not None
    assert table["Portability"].to_list() == [100, 50, 0]
    assert table["Portability_1hop"].dropna().to_dict() == {0: 100}
    assert table["Portability_2hop"].dropna().to_dict() == {1: 50, 2: 0}


def test_a_score_that_stands_twice_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    write_edits(tmp_path, [edit_row(), edit_row(value=1.0)])
    with pytest.raises(DataError, match="two scores of one edit"):
        record_scores(run)


def test_a_table_that_changed_is_read_again(tmp_path: Path) -> None:
    for value in (0.0, 1.0):
        run = make_scored(tmp_path, "ft", "unimodal", {ACCURACY: [value] * (2 + int(value))})
        table = record_scores(run)
        assert table is not None
        assert table["Reliability"].to_list() == [100 * value] * (2 + int(value))


def test_differences_are_those_of_the_reference_bit_for_bit(runs: list[RunResult]) -> None:
    tables = {entry.name: record_scores(entry.first) for entry in entries(runs)}
    names = ("Reliability", "Portability", "Locality", "Stability_EM")
    pairs = [Pair(a, b, name) for a in tables for b in tables if a != b for name in names]
    found = paired_differences(entries(runs), pairs, seed=7)
    assert list(found) == pairs
    for pair, value in found.items():
        first, second = (tables[name][pair.metric].dropna() for name in pair[:2])
        assert value == paired_difference(first, second, seed=7)
    assert found[pairs[0]] != paired_differences(entries(runs), pairs[:1], seed=8)[pairs[0]]


def test_pairs_are_over_the_records_that_both_have(tmp_path: Path) -> None:
    one = make_scored(tmp_path / "a", "ft", "unimodal", {ACCURACY: [1.0, 1.0, 0.0, 1.0]})
    other = make_scored(
        tmp_path / "b", "mend", "unimodal", {ACCURACY: [0.0, None, 0.0, 1.0]}, first_edit=1
    )
    third = make_scored(tmp_path / "c", "ike", "unimodal", {ACCURACY: [0.5]}, first_edit=9)
    reliability = Pair("FT", "MEND", "Reliability")
    disjoint = Pair("FT", "IKE", "Reliability")
    found = paired_differences(entries([one, other, third]), [reliability, disjoint], seed=0)
    assert found == {reliability: Estimate(100.0, 100.0, 100.0, 2)}  # edits 1 and 3 alone


def test_folders_without_a_table_take_no_part(tmp_path: Path, runs: list[RunResult]) -> None:
    bare = make_run(tmp_path / "bare", "ike", n_edits=N)
    found = paired_differences(entries([*runs, bare]), [Pair("IKE", "FT", "Reliability")], seed=0)
    assert found == {}
    assert paired_table(entries([bare])) is None
    assert scenario_table(entries([*runs, bare])).rows


@pytest.mark.parametrize(
    ("interval", "apart"),
    [((0.1, 2.0), True), ((-2.0, -0.1), True), ((-1.0, 1.0), False), ((0.0, 1.0), False),
     ((1e-14, 1.0), False), ((-1.0, -1e-14), False), ((0.0, 0.0), False)],
)  # fmt: skip
def test_an_interval_that_excludes_0_excludes_zero(
    interval: tuple[float, float], apart: bool
) -> None:
    assert excludes_zero(Estimate(sum(interval) / 2, *interval, 9)) is apart


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((-0.5, -1.02, 0.01), "-0.5 [-1.0, 0.0]"),
        ((-0.5, -1.02, -0.03), "-0.5 [-1.0, -0.03]"),
        ((0.04, 0.002, 12.25), "+0.0 [0.002, 12.2]"),
        ((-0.01, -0.04, 0.04), "+0.0 [0.0, 0.0]"),
    ],
)
def test_a_difference_as_it_is_printed(numbers: tuple[float, float, float], shown: str) -> None:
    assert plain_text(difference_cell(Estimate(*numbers, 9))) == shown


def test_the_table_of_pairs(runs: list[RunResult]) -> None:
    table = paired_table(entries(runs))
    assert table is not None
    labels = [row.heads for row in table.rows]
    assert labels == [
        ("llava_tiny", "FT − MEND"),
        ("llava_tiny", "FT − Unedited"),
        ("llava_tiny", "MEND − Unedited"),
    ]
    assert {row.n for row in table.rows} == {str(N)}
    by_editor = {run.editor: record_scores(run) for run in runs}
    value = paired_difference(
        *(by_editor[name]["Reliability"] for name in ("ft", "mend")), seed=runs[0].seed
    )
    cell = table.rows[0].cells[0]
    assert (cell.text, cell.n) == (f"{value.mean:+.1f}", N)
    assert cell.interval == f"[{value.low:.1f}, {value.high:.1f}]"
    assert cell.mark == (APART if excludes_zero(value) else PLAIN)
    assert f"Fewer records than n: Portability {N // 2}." in table.notes
    assert table.rows[0].cells[1].text == "-"  # no generality probe at all
    assert f"{cell.text}" in to_markdown(table)
    assert re.search(r"FT \$-\$ MEND & 40 & ", to_latex(table))


def test_models_are_paired_apart(tmp_path: Path, runs: list[RunResult]) -> None:
    other = [
        scored(tmp_path / f"b{name}", name, 5 * number, model="blip2_opt_tiny", model_digest="m1")
        for number, name in enumerate(("ft", "mend"))
    ]
    table = paired_table(entries([*runs, *other]))
    assert table is not None
    assert [row.heads[0] for row in table.rows] == ["blip2_opt_tiny"] + ["llava_tiny"] * 3


def test_runs_that_do_not_fit_are_not_paired(tmp_path: Path, runs: list[RunResult]) -> None:
    with pytest.raises(DataError, match="prompt is 'default'"):
        paired_table(entries([*runs, scored(tmp_path / "odd", "ike", 3, prompt="published")]))


@pytest.fixture
def close(tmp_path: Path) -> list[RunResult]:
    """FT is best; IKE loses two records of forty, MEND six, the unedited model is far off."""
    perfect = [1.0] * N
    missed = {"ft": 0, "ike": 2, "mend": 6, "none": N}
    leaks = {"ft": 6, "ike": 2, "mend": 0, "none": 0}
    return [
        make_scored(
            tmp_path / name, name, "unimodal",
            {
                ACCURACY: [0.0] * count + perfect[count:],
                "leak_same/token_accuracy": [1.0] * leaks[name] + [0.0] * (N - leaks[name]),
            },
        )
        for name, count in missed.items()
    ]  # fmt: skip


def test_editors_that_are_not_told_apart_from_the_best_are_marked(close: list[RunResult]) -> None:
    table = scenario_table(entries(close))
    found = {row.heads[1]: (row.cells[0].mark, row.cells[0].is_tied) for row in table.rows}
    assert found["FT"] == (BEST, False)
    assert found["IKE"][1] is True
    assert found["MEND"][1] is False
    assert found["Unedited"] == (PLAIN, False)
    assert "(40), includes 0" in table.notes[-1]
    text = to_markdown(table)
    assert re.search(r"\| IKE \| 40 \| <u>95.0</u> ± \S+ † \|", text)
    assert text.count("†") == 2  # the cell and the note
    assert r"$^{\dagger}$" in to_latex(table)


def test_low_leaks_are_the_best_of_the_ties(close: list[RunResult]) -> None:
    rows = {row.heads[1]: row.cells[0] for row in scenario_table(entries(close), ["Leak"]).rows}
    assert rows["MEND"].mark == BEST
    assert (rows["IKE"].is_tied, rows["FT"].is_tied) == (True, False)


def test_without_tables_of_edits_nothing_is_marked(tmp_path: Path) -> None:
    bare = [
        make_run(tmp_path / name, name, means={"Reliability": mean})
        for name, mean in (("ft", 90.0), ("mend", 89.9))
    ]
    table = scenario_table(entries(bare))
    assert not any(cell.is_tied for row in table.rows for cell in row.cells)
    assert not any("told apart" in note for note in table.notes)


def test_an_empty_table_has_no_scores() -> None:
    empty = pd.DataFrame({"edit_id": [], "probe": [], "metric": [], "value": []})
    assert scores_by_record(empty, headlines_of("unimodal")).empty
