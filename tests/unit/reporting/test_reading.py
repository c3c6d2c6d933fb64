"""Tables of pictures that were read before the edit, and of gains over the unedited model."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from metrics.bootstrap import paired_difference
from reporting.beside import ABOVE
from reporting.console import beside_tables, result_table
from reporting.document import build_report
from reporting.entries import Entry
from reporting.floors import floor_marks
from reporting.formats import (
    APART,
    NO_GAIN,
    NOT_SPECIFIC,
    ResultTable,
    to_csv,
    to_latex,
    to_markdown,
)
from reporting.naming import entries
from reporting.page import to_html
from reporting.pairs import record_scores
from reporting.paper import paper_columns
from reporting.reading import gain_table, reading_table
from reporting.run_tables import run_markdown
from reporting.sources import Sources
from reporting.tables import further_columns, scenario_table
from reporting.transitivity import READ_GAPS, gap_table, transitivity_gaps
from results.folder import RunResult
from tests.result_folders import make_run, make_scored

N = 10
READ = 4  # edits 0 to 3 are of pictures that were read
NAMED = 3  # and of the first two and the last one the subject was named


def run(
    folder: Path, editor: str, read: float, unread: float, leak: float = 0.0, **changes: object
) -> RunResult:
    """An editor with one score on pictures that were read, and another on those that were not.

    The new answer scores `leak` about the entity of the same type, and nine records have one.
    """
    scores: dict[str, Sequence[float | None]] = {
        "reliability_s/token_accuracy": [read] * READ + [unread] * (N - READ),
        "reliability_s/token_accuracy_before": [0.25] * N,
        "reliability_s/exact_match": [float(read == 1)] * READ + [float(unread == 1)] * (N - READ),
        "reliability_s/exact_match_before": [0.0] * N,
        "reliability_s/fact_before": [1.0] * READ + [0.0] * (N - READ),
        "reliability_s/named_before": [1.0, 1.0, *[0.0] * (N - NAMED), 1.0],
        "reliability_s/first_token": [0.0] * (N - 2) + [1.0] * 2,
        "reliability_s/first_token_before": [0.0] * N,
        "leak_same/token_accuracy": [*[leak] * (N - 1), None],
        "leak_same/token_accuracy_before": [*[0.25] * (N - 1), None],
        "reliability_u/token_accuracy": [read] * N,
        "reliability_u/token_accuracy_before": [0.5] * N,
        "reliability_u/fact_before": [1.0] * N,
        "locality_i_far/token_agreement": [0.75] * N,
        "locality_i_far/fact_before": [0.0] * N,
    }
    return make_scored(folder, editor, "transitive", scores, **changes)


def in_text(folder: Path, editor: str, score: float) -> RunResult:
    scores: dict[str, Sequence[float | None]] = {
        "reliability/token_accuracy": [score] * N,
        "reliability/token_accuracy_before": [0.1 * (n % 2) for n in range(N)],
    }
    return make_scored(folder, editor, "unimodal", scores)


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """ROME reaches what was read, FT all the same; both are right in text."""
    return [
        run(tmp_path / "none", "none", 0.25, 0.25, 0.25),
        run(tmp_path / "rome", "rome", 1.0, 0.0),
        run(tmp_path / "ft", "ft", 1.0, 1.0, 1.0),
        *(in_text(tmp_path / f"{name}_text", name, 1.0) for name in ("rome", "ft")),
    ]


def cell(table: ResultTable, column: str, *heads: str) -> str:
    number = [column.name for column in table.columns].index(column)
    (row,) = (row for row in table.rows if row.heads[1:] == heads)
    return row.cells[number].text


def test_edits_in_both_stand_beside_their_own_answers_in_text(tmp_path: Path) -> None:
    """And not beside those of other edits, which were made in text alone."""
    scores: dict[str, Sequence[float | None]] = {
        "reliability_s/token_accuracy": [1.0] * N,
        "reliability_s/fact_before": [1.0] * N,
        "reliability_t/token_accuracy": [0.5] * N,
        "reliability_t/token_accuracy_before": [0.5] * N,
    }
    both = make_scored(tmp_path / "both", "ft", "joint", scores)
    others = entries([in_text(tmp_path / "text", "ft", 1.0)])
    table = reading_table(entries([both]), others)
    assert table is not None
    assert cell(table, "In text", "FT", "seen") == "50.0"
    number = [column.name for column in table.columns].index("In text")
    assert table.rows[0].cells[number].floor == NO_GAIN
    assert table.notes[0] == "In text: the row's Reliability after the same edit."


def table_of(runs: list[RunResult]) -> ResultTable:
    rows = entries(runs)
    table = reading_table(
        [entry for entry in rows if entry.scenario == "transitive"],
        [entry for entry in rows if entry.scenario == "unimodal"],
    )
    assert table is not None
    return table


def test_rows_are_split_by_what_was_read(runs: list[RunResult]) -> None:
    table = table_of(runs)
    assert [row.heads[1:] for row in table.rows] == [
        (editor, picture) for editor in ("Unedited", "FT", "ROME") for picture in ("seen", "unseen")
    ]
    for editor, on_picture, unread, gain in (
        ("ROME", "40.0", "0.0", "+15.0"), ("FT", "100.0", "100.0", "+75.0"),
    ):  # fmt: skip
        seen = (editor, "seen")
        assert cell(table, "In text", *seen) == "100.0"
        assert (
            cell(table, "On the picture", *seen) == cell(table, "Exact match", *seen) == on_picture
        )
        assert cell(table, "Gain", *seen) == gain
        assert (cell(table, "Read", *seen), cell(table, "n read", *seen)) == ("100.0", "4")
        assert (cell(table, "Not read", *seen), cell(table, "n unread", *seen)) == (unread, "6")
        assert (cell(table, "n named", *seen), cell(table, "n unnamed", *seen)) == ("3", "7")
        assert cell(table, "Locality_I", *seen) == "75.0"
    assert cell(table, "Named", "ROME", "seen") == "66.7"
    assert cell(table, "In text", "Unedited", "seen") == "-", "it was not judged in text"
    assert cell(table, "Gain", "Unedited", "seen") == "+0.0"


def test_what_was_never_asked_is_a_dash_and_counts_nobody(runs: list[RunResult]) -> None:
    table = table_of(runs)
    for column, count in (("Not read", "n unread"), ("Named", "n named")):
        assert cell(table, column, "FT", "unseen") == "-"
        assert cell(table, count, "FT", "unseen") == "0"
    assert "nan" not in to_csv(table)
    variants = runs[2].variants
    assert variants["Reliability_U_unread"].as_dict() == {
        "mean": None,
        "ci95": [None, None],
        "n": 0,
    }


def test_earlier_results_have_no_such_table(tmp_path: Path, runs: list[RunResult]) -> None:
    older = make_run(tmp_path / "older", "mend", "transitive")
    assert older.variants == {}
    assert reading_table(entries([older])) is None
    assert gain_table(entries([older])) is None
    assert beside_tables(older) == []
    assert "Gain" not in run_markdown(older)
    assert not any(
        column.name.endswith("gain") for column in scenario_table(entries([older])).columns
    )
    sections = [
        getattr(block, "title", "")
        for block in build_report(Sources(tuple(entries([older])))).blocks
    ]
    assert "Pictures that were read" not in sections


def test_gains_are_told_of_every_editor(runs: list[RunResult]) -> None:
    pictures = gain_table(entries(runs[:3]))
    assert pictures is not None
    assert [row.heads[1] for row in pictures.rows] == ["FT", "ROME"]
    assert cell(pictures, "Reliability_U", "FT") == "+50.0"
    assert pictures.rows[0].cells[0].mark == APART
    text = gain_table(entries(runs[3:]))
    assert text is not None
    assert cell(text, "Reliability", "ROME") == "+95.0"


def test_what_is_left_of_the_fall_where_the_picture_was_read(runs: list[RunResult]) -> None:
    gaps = transitivity_gaps(entries(runs), READ_GAPS)
    assert all(gap.is_paired for gap in gaps)
    by_row = {(gap.editor, gap.metric): gap.value for gap in gaps}
    left, lost = by_row["rome", "read pictures"], by_row["rome", "unread pictures"]
    assert (left.mean, left.n, lost.mean, lost.n) == (0.0, READ, 100.0, N - READ)
    pictures = record_scores(runs[1])["Reliability_S_named"].dropna()
    assert by_row["rome", "named pictures"] == paired_difference([100.0] * NAMED, pictures)
    assert by_row["ft", "unread pictures"].mean == 0
    table = gap_table(gaps, READ_GAPS)
    assert table is not None
    assert table.columns[0].name == "Reliability gap, read pictures"
    assert any("Fewer records than n" in note for note in table.notes)


def test_the_report_has_the_tables_and_the_terminal_a_block(runs: list[RunResult]) -> None:
    blocks = list(build_report(Sources(tuple(entries(runs)))).walk())
    named = {block.name for block in blocks if hasattr(block, "table")}
    assert {
        "transitive_read",
        "transitivity_gap_read",
        "transitive_gains",
        "unimodal_gains",
    } <= named
    above, by_picture = beside_tables(runs[1])
    assert terminal_line(by_picture, "Reliability_S") == [
        "Reliability_S ↑", "100.0 (4)", "0.0 (6)", "66.7 (3)", "28.6 (7)",
    ]  # fmt: skip
    name, gain, specificity, first, match = terminal_line(above, "Reliability_S")
    assert (name, gain.split()[0], specificity.split()[0]) == ("Reliability_S ↑", "+15.0", "+44.4")
    assert (first.split()[0], match.split()[0]) == ("20.0", "40.0")
    assert re.search(
        r"^\| Reliability_S_EM ↑ \| \+40\.0 \[.*\] \| - \|$", run_markdown(runs[1]), re.MULTILINE
    ), "exact matches of the other entity were not scored"
    assert "| Reliability_S_EM ↑ | 100.0 (4) | 0.0 (6) |" in run_markdown(runs[1])
    (text,) = beside_tables(runs[3])
    assert [column.header for column in text.columns] == list(ABOVE)
    assert beside_tables(runs[0])[0].title == by_picture.title, (
        "the unedited model is above nothing"
    )


def terminal_line(table: Table, name: str) -> list[str]:
    console = Console(width=120, record=True)
    console.print(table)
    line = next(line for line in console.export_text().splitlines() if f" {name} " in line)
    return [part.strip() for part in line.strip("│ ").split("│")]


def test_a_table_with_pictures_says_what_its_figures_are_above(runs: list[RunResult]) -> None:
    table = scenario_table(entries(runs[:3]))
    seen = ["Reliability_S_gain", "Specificity_S", "Reliability_S_first", "Reliability_S_EM"]
    assert [column.name for column in table.columns][8:] == seen
    further = further_columns(entries(runs[:3]))
    assert [name for _, name, _ in further] == ["further"], "others have no other measure"
    assert not set(seen) & {name for _, _, names in further for name in names}
    assert cell(table, "Reliability_S_gain", "FT") == "+75.0"
    assert cell(table, "Specificity_S", "FT") == "+0.0"
    assert cell(table, "Specificity_S", "ROME") == "+44.4"
    assert cell(table, "Reliability_S_first", "ROME") == "20.0"
    assert any("Specificity_S 9" in note for note in table.notes), "one record has no such probe"
    in_text = scenario_table(entries(runs[3:]))
    assert [column.name for column in in_text.columns] == list(paper_columns("unimodal"))


def test_figures_that_are_not_told_from_a_floor_are_marked(runs: list[RunResult]) -> None:
    """FT gives the new answer to everybody; ROME's 40 may be 0.25 of the unedited model's."""
    table = scenario_table(entries(runs[:3]))
    floors = {row.heads[1]: row.cells[0].floor for row in table.rows}
    assert floors == {"Unedited": "", "FT": NOT_SPECIFIC, "ROME": NO_GAIN}
    unseen = {row.heads[1]: row.cells[1].floor for row in table.rows}
    assert unseen == {"Unedited": "", "FT": NOT_SPECIFIC, "ROME": ""}
    notes = [note for note in table.notes if note[0] in NO_GAIN + NOT_SPECIFIC]
    assert [note[0] for note in notes] == [NO_GAIN, NOT_SPECIFIC]
    assert "gain" in notes[0]
    assert "specificity" in notes[1]
    markdown, latex, lines = to_markdown(table), to_latex(table), to_csv(table).splitlines()
    assert f"**100.0** ± 0.0 {NOT_SPECIFIC} |" in markdown
    assert r"$^{\ddagger}$" in latex
    assert [line.rsplit(",", 1)[1] for line in lines if ",Reliability_S," in line] == [
        "", "specificity", "gain",
    ]  # fmt: skip
    page = ET.fromstring(to_html(table))
    assert page.find(".//td[@class='number best floor']/sup").text == NOT_SPECIFIC  # type: ignore[union-attr]
    read = table_of(runs)
    (ft,) = (row for row in read.rows if row.heads[1:] == ("FT", "seen"))
    assert [(cell_.text, cell_.floor) for cell_ in ft.cells[:2]] == [
        ("100.0", ""), ("100.0", NOT_SPECIFIC),
    ], "in text nobody else was asked, and the gain is 95"  # fmt: skip
    assert f"100.0 {NOT_SPECIFIC}" in list(result_table(runs[2]).columns[1].cells)
    assert "not told from an answer that everybody gets" in str(result_table(runs[2]).caption)
    assert f"| Reliability_S ↑ | 100.0 {NOT_SPECIFIC} | 100.0 to 100.0 | 10 |" in run_markdown(
        runs[2]
    )


def test_an_editor_that_changes_nothing_is_marked(tmp_path: Path) -> None:
    idle = run(tmp_path, "ike", 0.25, 0.25, 0.25)
    assert (idle.variants["Reliability_S_gain"].mean, idle.variants["Leak_gain"].mean) == (0, 0)
    assert floor_marks(Entry.of(idle), ["Reliability_S", "Locality_I"]) == {
        "Reliability_S": NO_GAIN + NOT_SPECIFIC
    }


def test_several_seeds_are_marked_over_records_and_seeds(tmp_path: Path) -> None:
    rows = entries(
        [
            run(tmp_path / f"{name}{seed}", name, read, 1.0, leak, seed=seed)
            for name, read, leak in (("ft", 1.0, 1.0), ("rome", 0.75, 0.0))
            for seed in (0, 1)
        ]
    )
    assert {row.name: floor_marks(row, ["Reliability_S"]) for row in rows} == {
        "FT": {"Reliability_S": NOT_SPECIFIC}, "ROME": {}
    }  # fmt: skip
    table = scenario_table(rows)
    assert cell(table, "Specificity_S", "FT") == "+0.0"
    assert table.rows[0].cells[-3].sd == "0.0"
