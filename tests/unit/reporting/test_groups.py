"""Results by relation and by target."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from metrics.bootstrap import estimate
from metrics.seeds import OverSeeds
from reporting.blocks import Figure, Section, Table
from reporting.document import build_report
from reporting.entries import Entry, each_once
from reporting.formats import APART, Cell
from reporting.group_figure import group_points
from reporting.groups import OTHERS, group_table, grouped
from reporting.naming import entries
from reporting.sources import Sources
from results.folder import RunResult
from tests.result_folders import make_scored, write_groups

RELATIONS = ["author"] * 7 + ["religion"] * 5 + ["maker"] * 4 + [None] * 2
N = len(RELATIONS)


def scores(seed: int) -> list[float]:
    return (np.random.default_rng(seed).integers(0, 4, N) / 3).tolist()


def run(folder: Path, editor: str = "ft", seed: int = 0, **changes: object) -> RunResult:
    """An editor of 18 edits that all gain what they score."""
    found = make_scored(
        folder, editor, "unimodal",
        {
            "reliability/token_accuracy": scores(seed),
            "reliability/token_accuracy_before": [0.0] * N,
            "leak_same/token_accuracy": [0.0] * 12 + [None] * 6,
        },
        seed=seed, **changes,
    )  # fmt: skip
    write_groups(folder, range(N), relation=RELATIONS)
    return found


def rows_of(table_runs: Sequence[RunResult], by: str = "relation") -> dict[tuple[str, str], Cell]:
    table = group_table(grouped(entries(table_runs), by), by)
    assert table is not None
    return {row.heads[1:]: row.cells[0] for row in table.rows}  # type: ignore[misc]


def test_rows_are_picked_once_in_their_order(tmp_path: Path) -> None:
    """By what they are, not by what they are called: two models have an FT."""
    first, second = (Entry.of(run(tmp_path / name)) for name in "ab")
    assert first.name == second.name
    found = each_once([second, first, second, first])
    assert [entry is one for entry, one in zip(found, (second, first), strict=True)] == [True] * 2


def test_each_relation_has_the_mean_of_its_edits_and_small_ones_stand_together(
    tmp_path: Path,
) -> None:
    found = run(tmp_path / "a")
    table = group_table(grouped(entries([found]), "relation"), "relation")
    assert table is not None
    assert [(row.heads[1], row.n) for row in table.rows] == [
        ("author", "7"), ("religion", "5"), (OTHERS, "6"),
    ]  # fmt: skip
    assert [column.title for column in table.columns] == [
        "Reliability ↑", "Gain ↑", "Specificity ↑"
    ]  # fmt: skip
    values = np.array(scores(0))
    for row, of in zip(table.rows, (values[:7], values[7:12], values[12:]), strict=True):
        expected = estimate(of, scale=100)
        cell = row.cells[0]
        assert (cell.text, cell.half) == (f"{expected.mean:.1f}", f"{expected.half_width:.1f}")
        assert row.cells[1].text == f"{expected.mean:+.1f}"
        assert row.cells[1].mark == (APART if expected.low > 0 else "")
    # The records of the rest have no probe about another entity: a dash.
    assert [row.cells[2].text != "-" for row in table.rows] == [True, True, False]
    assert "Each relation with at least 5 edits" in table.notes[0]


def test_rows_of_several_seeds_are_means_over_them_within_each_relation(tmp_path: Path) -> None:
    (group, *_) = grouped(entries([run(tmp_path / f"{s}", seed=s) for s in (0, 1)]), "relation")
    value = group.values["Reliability"]
    assert isinstance(value, OverSeeds)
    assert value.means == pytest.approx([100 * np.mean(scores(s)[:7]) for s in (0, 1)])


def test_targets_are_one_in_any_spelling_and_their_own_clusters(tmp_path: Path) -> None:
    """Drawn by target, the edits of one target have no interval."""
    found = run(tmp_path, cluster="target")
    spelled = ["Plato", "plato ", "PLATO"] * 2 + [f"t{number}" for number in range(12)]
    keys = [" ".join(name.casefold().split()) for name in spelled]
    write_groups(tmp_path, range(N), target=spelled, cluster=keys)
    cells = rows_of([found], "target")
    assert list(cells) == [("Plato", "FT"), (OTHERS, "FT")]
    assert [cell.half == "-" for cell in cells.values()] == [True, False]


def test_at_most_twelve_groups_stand_alone(tmp_path: Path) -> None:
    found = make_scored(tmp_path, "ft", "unimodal", {"reliability/token_accuracy": [1.0] * 75})
    write_groups(tmp_path, range(75), relation=[f"r{number // 5:02d}" for number in range(75)])
    groups = grouped(entries([found]), "relation")
    assert [group.name for group in groups] == [f"r{n:02d}" for n in range(12)] + [OTHERS]
    assert groups[-1].n == 15


def test_results_that_do_not_say_and_edits_of_one_relation_have_no_table(tmp_path: Path) -> None:
    before = make_scored(tmp_path / "a", "ft", "unimodal", {"reliability/token_accuracy": [1.0]})
    assert grouped(entries([before]), "relation") == []
    assert group_table([], "relation") is None
    found = run(tmp_path / "b")
    write_groups(tmp_path / "b", range(N), relation=["author"] * N)
    assert grouped(entries([found]), "relation") == []
    # A row that does not say stands in no group; the others do.
    write_groups(tmp_path / "b", range(N), relation=RELATIONS)
    other = run(tmp_path / "c", "mend")
    write_groups(tmp_path / "c", range(N))
    assert {row for _, row in rows_of([found, other])} == {"FT"}


def test_a_report_has_tables_and_small_multiples_of_each_model(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / f"{model}{editor}", editor, model=model)
        for model in ("llava_tiny", "blip2_opt_tiny")
        for editor in ("ft", "mend")
    ]
    report = build_report(Sources(tuple(entries(runs))))
    section = next(b for b in report.walk() if isinstance(b, Section) and b.title == "By relation")
    table, *figures = section.blocks
    assert isinstance(table, Table)
    assert len(table.table.rows) == 2 * 3 * 2
    names = [figure.name for figure in figures if isinstance(figure, Figure)]
    assert names == ["unimodal_by_relation_blip2-opt-tiny", "unimodal_by_relation_llava-tiny"]
    groups = [g for g in grouped(entries(runs), "relation") if g.entry.model == "llava_tiny"]
    files = group_points(groups, tmp_path / "figure")
    assert [file.suffix for file in files] == [".png", ".pdf"]
    assert all(file.stat().st_size > 3000 for file in files)
