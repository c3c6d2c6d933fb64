"""What letting the model name a picture first changes, in tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from metrics.bootstrap import estimate
from metrics.collection import variant_metrics
from metrics.name_first import CHAIN
from reporting.by_name import by_name_lines
from reporting.console import beside_tables
from reporting.document import build_report
from reporting.formats import APART, NO_GAIN, NOT_SPECIFIC
from reporting.name_first import name_first_table
from reporting.naming import entries
from reporting.pairs import record_scores
from reporting.run_tables import run_markdown
from reporting.sources import Sources
from results.folder import RunResult
from tests.result_folders import make_run, make_scored

N = 8
ACCURACY = "token_accuracy"


def run(
    folder: Path,
    editor: str = "rome",
    before: Sequence[float] | None = None,
    leaked: float = 0.5,
    **changes: object,
) -> RunResult:
    """By its name the subject is answered for all but one record; two of its pictures are named.

    Args:
        folder: of the run.
        editor: label of the editor.
        before: what the unedited model scores by name, record by record; None: not told.
        leaked: how often the new answer is given about somebody else by its name.
        changes: other fields of the summary.
    """
    scores: dict[str, list[float | None]] = {
        f"reliability_s/{ACCURACY}": [0.25] * N,
        f"reliability_s_chain/{ACCURACY}": [1.0] * (N - 1) + [None],
        "reliability_s_name/generation_match": [1.0, 1.0, *[0.0] * (N - 3), None],
        f"leak_same/{ACCURACY}": [0.5] * N,
        f"leak_same_chain/{ACCURACY}": [leaked] * N,
    }
    if before is not None:
        scores[f"reliability_s_chain/{ACCURACY}_before"] = [*before, None]
        scores[f"leak_same_chain/{ACCURACY}_before"] = [0.25] * N
    of_probes = {
        (probe, measure): {n: v for n, v in enumerate(values) if v is not None}
        for key, values in scores.items()
        for probe, _, measure in [key.partition("/")]
    }
    found = variant_metrics(of_probes, "transitive", resamples=200)
    variants = {name: value.as_dict() for name, value in found.items()}
    return make_scored(folder, editor, "transitive", scores, variants=variants, **changes)


def test_rows_tell_at_once_by_name_and_the_gains(tmp_path: Path) -> None:
    table = name_first_table(entries([run(tmp_path / "a"), run(tmp_path / "b", "ft")]))
    assert table is not None
    assert [row.heads[1:] for row in table.rows] == [
        (editor, asked)
        for editor in ("FT", "ROME")
        for asked in ("at once", "by name", "gain", "gain of the edit")
    ]
    assert [column.title for column in table.columns] == [
        "Recognition_S ↑", "Reliability_S ↑", "Leak ↓",
    ]  # fmt: skip
    at_once, by_name, gain = ([cell.text for cell in row.cells] for row in table.rows[:3])
    assert at_once == ["-", "25.0", "50.0"]
    assert table.rows[0].cells[1].floor == NOT_SPECIFIC, "it has 25 there, and 50 about another"
    assert not any(cell.floor for row in table.rows[1:3] for cell in row.cells)
    assert any(note.startswith(f"{NOT_SPECIFIC} not told from") for note in table.notes)
    assert by_name == ["28.6", "100.0", "50.0"]
    assert gain == ["-", "+75.0", "+0.0"]
    assert [cell.text for cell in table.rows[3].cells] == ["-"] * 3, "the results do not say"
    assert any("were not asked by a name" in note for note in table.notes)
    assert [cell.mark == APART for cell in table.rows[2].cells] == [False, True, False]


def test_by_name_the_edit_is_above_what_the_unedited_model_says_by_name(tmp_path: Path) -> None:
    """Answers that the unedited model gives by name, or the edited one gives to all, are marked."""
    before = [1.0, 0.0, 0.0, 0.5, 0.0, 0.0, 0.0]
    runs = [
        run(tmp_path / "none", "none", before=[0.0] * (N - 1)),
        run(tmp_path / "ft", "ft", before=before),
        run(tmp_path / "ike", "ike", before=[1.0] * (N - 1)),
        run(tmp_path / "rome", "rome", before=before, leaked=1.0),
    ]
    table = name_first_table(entries(runs))
    assert table is not None
    place = [column.name for column in table.columns].index("Reliability_S")
    gained = {
        row.heads[1]: row.cells[place] for row in table.rows if row.heads[2] == "gain of the edit"
    }
    assert list(gained) == ["FT", "IKE", "ROME"], "the unedited model is above nothing"
    expected = estimate([100 * (1 - share) for share in before])
    assert (gained["FT"].text, gained["FT"].mark) == (f"{expected.mean:+.1f}", APART)
    assert gained["FT"].interval == f"[{expected.low:.1f}, {expected.high:.1f}]"
    assert (gained["IKE"].text, gained["IKE"].mark) == ("+0.0", "")
    by_name = {row.heads[1]: row.cells[place] for row in table.rows if row.heads[2] == "by name"}
    assert {name: cell.floor for name, cell in by_name.items()} == {
        "Unedited": "", "FT": "", "IKE": NO_GAIN, "ROME": NOT_SPECIFIC,
    }  # fmt: skip
    assert [line[4] for line in by_name_lines(runs[1])] == [
        f"{expected.mean:+.1f} [{expected.low:.1f}, {expected.high:.1f}]", "+25.0 [25.0, 25.0]",
    ]  # fmt: skip
    assert [line[4] for line in by_name_lines(runs[0])] == ["-", "-"]


def test_one_run_tells_the_same_in_lines(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert by_name_lines(result) == [
        ("Reliability_S ↑", "25.0", "100.0", "+75.0", "-", "7"),
        ("Leak ↓", "50.0", "50.0", "+0.0", "-", "8"),
    ]
    assert "| Reliability_S ↑ | 25.0 | 100.0 | +75.0 | - | 7 |" in run_markdown(result)
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
    result = run(tmp_path, before=[0.5] * (N - 1))
    table = record_scores(result)
    told = {n: v for n, v in result.variants.items() if CHAIN in n and v.n}
    assert {
        "Reliability_S_chain", "Reliability_S_chain_gain", "Specificity_S_chain",
        "Reliability_S_chain_edit_gain", "Specificity_S_chain_edit_gain",
    } <= set(told)  # fmt: skip
    assert set(told) <= set(table)
    for name, value in told.items():
        assert table[name].mean() == pytest.approx(value.mean)
        assert table[name].count() == value.n
