"""What letting the model name a picture first changes, in tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from metrics.collection import variant_metrics
from metrics.name_first import CHAIN
from reporting.by_name import by_name_lines
from reporting.console import beside_tables
from reporting.document import build_report
from reporting.formats import APART, NOT_SPECIFIC
from reporting.name_first import name_first_table
from reporting.naming import entries
from reporting.pairs import record_scores
from reporting.run_tables import run_markdown
from reporting.sources import Sources
from results.folder import RunResult
from tests.result_folders import make_run, make_scored

N = 8
ACCURACY = "token_accuracy"


def run(folder: Path, editor: str = "rome", **changes: object) -> RunResult:
    """By its name the subject is answered for all but one record; two of its pictures are named."""
    scores: dict[str, list[float | None]] = {
        f"reliability_s/{ACCURACY}": [0.25] * N,
        f"reliability_s_chain/{ACCURACY}": [1.0] * (N - 1) + [None],
        "reliability_s_name/generation_match": [1.0, 1.0, *[0.0] * (N - 3), None],
        f"leak_same/{ACCURACY}": [0.5] * N,
        f"leak_same_chain/{ACCURACY}": [0.5] * N,
    }
    of_probes = {
        (probe, measure): {n: v for n, v in enumerate(values) if v is not None}
        for key, values in scores.items()
        for probe, _, measure in [key.partition("/")]
    }
    found = variant_metrics(of_probes, "transitive", resamples=200)
    variants = {name: value.as_dict() for name, value in found.items()}
    return make_scored(folder, editor, "transitive", scores, variants=variants, **changes)


def test_three_rows_tell_at_once_by_name_and_the_gain(tmp_path: Path) -> None:
    table = name_first_table(entries([run(tmp_path / "a"), run(tmp_path / "b", "ft")]))
    assert table is not None
    assert [row.heads[1:] for row in table.rows] == [
        (editor, asked) for editor in ("FT", "ROME") for asked in ("at once", "by name", "gain")
    ]
    assert [column.title for column in table.columns] == [
        "Recognition_S ↑", "Reliability_S ↑", "Leak ↓",
    ]  # fmt: skip
    at_once, by_name, gain = ([cell.text for cell in row.cells] for row in table.rows[:3])
    assert at_once == ["-", "25.0", "50.0"]
    assert table.rows[0].cells[1].floor == NOT_SPECIFIC, "it has 25 there, and 50 about another"
    assert not any(cell.floor for row in table.rows[1:3] for cell in row.cells)
    assert any(note.startswith(f"{NOT_SPECIFIC} not told from") for note in table.notes)
    assert any("have no mark" in note for note in table.notes)
    assert by_name == ["28.6", "100.0", "50.0"]
    assert gain == ["-", "+75.0", "+0.0"]
    assert any("were not asked by a name" in note for note in table.notes)
    assert [cell.mark == APART for cell in table.rows[2].cells] == [False, True, False]


def test_one_run_tells_the_same_in_lines(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert by_name_lines(result) == [
        ("Reliability_S ↑", "25.0", "100.0", "+75.0", "7"),
        ("Leak ↓", "50.0", "50.0", "+0.0", "8"),
    ]
    assert "| Reliability_S ↑ | 25.0 | 100.0 | +75.0 | 7 |" in run_markdown(result)
    assert "were not asked by a name" in run_markdown(result)
    titles = [table.title for table in beside_tables(result)]
    assert titles[-1] == "Name first, then ask"
    assert "Name first, then ask" not in [t.title for t in beside_tables(make_run(tmp_path / "o"))]


@pytest.mark.parametrize("is_asked", [True, False])
def test_the_report_has_the_table_where_a_run_asked_so(tmp_path: Path, is_asked: bool) -> None:
    result = run(tmp_path) if is_asked else make_run(tmp_path, "rome", "transitive")
    blocks = list(build_report(Sources(tuple(entries([result])))).walk())
    titles = {getattr(block, "title", "") for block in blocks}
    names = {getattr(block, "name", "") for block in blocks}
    assert ("Name first, then ask" in titles) == ("transitive_name_first" in names) == is_asked
    assert by_name_lines(result) if is_asked else not by_name_lines(result)
    assert is_asked or name_first_table(entries([result])) is None


def test_scores_by_record_are_those_that_the_metrics_are_means_of(tmp_path: Path) -> None:
    result = run(tmp_path)
    table = record_scores(result)
    told = {n: v for n, v in result.variants.items() if CHAIN in n and v.n}
    assert {"Reliability_S_chain", "Reliability_S_chain_gain", "Specificity_S_chain"} <= set(told)
    assert set(told) <= set(table)
    for name, value in told.items():
        assert table[name].mean() == pytest.approx(value.mean)
        assert table[name].count() == value.n
