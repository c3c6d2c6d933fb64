"""Tables and bars of where the chain from an edit to a picture breaks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from metrics.chain import BY_CHANCE, CARRIED, CLASSES, NOT_CARRIED, NOT_RECOGNISED
from reporting.chain import chain_splits, chain_table, run_links
from reporting.chain_figure import chain_bars
from reporting.document import build_report, write_report
from reporting.gallery import CLASS, OF_A_CLASS, read_gallery
from reporting.naming import entries
from reporting.page import _choices
from reporting.sources import Sources, read_sources
from results.folder import RunResult
from tests.result_folders import make_run, make_scored

# Edit:            0    1    2    3    4    5    6    7    8     9
GIVEN = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0]
NAMED: list[float | None] = [1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 0.0, None, None]
BEFORE = [0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
ANOTHER: list[float | None] = [0.0, 1.0, None, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
SHARES = {CARRIED: 12.5, BY_CHANCE: 37.5, NOT_CARRIED: 37.5, NOT_RECOGNISED: 12.5}


def run(
    folder: Path,
    editor: str = "rome",
    given: Sequence[float] = GIVEN,
    named: Sequence[float | None] = NAMED,
    **changes: object,
) -> RunResult:
    """The unseen picture of every record is named and never answered."""
    none = [0.0] * len(given)
    scores: dict[str, Sequence[float | None]] = {
        "reliability_s/token_accuracy": given,
        "reliability_s/exact_match": given,
        "reliability_s/exact_match_before": BEFORE,
        "reliability_s/named_before": named,
        "reliability_u/exact_match": none,
        "reliability_u/exact_match_before": none,
        "reliability_u/named_before": [None if flag is None else 1.0 for flag in named],
        "leak_same/exact_match": ANOTHER,
        "leak_same/exact_match_before": none,
    }
    return make_scored(folder, editor, "transitive", scores, **changes)


def test_rows_are_split_by_hand(tmp_path: Path) -> None:
    result = run(tmp_path)
    seen, unseen = chain_splits(entries([result]))
    assert (seen.picture, unseen.picture) == ("seen", "unseen")
    assert {name: share.mean for name, share in seen.shares.items()} == SHARES
    assert (seen.n, seen.unasked) == (8, 2)
    assert unseen.shares[NOT_CARRIED].mean == 100
    kinds = {edit: link.kind for edit, link in run_links(result, "seen").items()}
    assert [edit for edit, kind in kinds.items() if kind == BY_CHANCE] == [1, 2, 3]
    assert (kinds[0], kinds[8], kinds[9]) == (CARRIED, None, None)


def test_the_table_has_a_row_per_picture_and_intervals(tmp_path: Path) -> None:
    rows = entries([run(tmp_path / "rome"), run(tmp_path / "ft", "ft", [0.0] * 10)])
    table = chain_table(chain_splits(rows))
    assert table is not None
    assert [row.heads[1:] for row in table.rows] == [
        ("FT", "seen"), ("FT", "unseen"), ("ROME", "seen"), ("ROME", "unseen"),
    ]  # fmt: skip
    seen = table.rows[2]
    assert [column.name for column in table.columns][:-1] == [
        f"{name[0].upper()}{name[1:]}" for name in CLASSES
    ]
    assert [cell.text for cell in seen.cells] == ["12.5", "37.5", "37.5", "12.5", "2"]
    assert (seen.n, bool(seen.cells[0].half)) == ("8", True)
    assert [cell.text for cell in table.rows[0].cells] == ["0.0", "0.0", "75.0", "25.0", "2"]


def test_several_seeds_are_one_row(tmp_path: Path) -> None:
    runs = [
        run(tmp_path / "0", seed=0),
        run(tmp_path / "1", given=[0.0] * 10, seed=1),
    ]
    seen, _ = chain_splits(entries(runs))
    assert seen.shares[CARRIED].mean == pytest.approx(6.25)
    table = chain_table([seen])
    assert table is not None
    assert (table.rows[0].seeds, table.rows[0].cells[0].sd) == (2, "8.8")


def test_results_that_do_not_say_are_left_out(tmp_path: Path) -> None:
    older = make_run(tmp_path / "older", "mend", "transitive")
    unnamed = run(tmp_path / "unnamed", "ft", named=[None] * 10)
    assert chain_splits(entries([older, unnamed])) == []
    assert chain_table([]) is None
    titles = [
        getattr(b, "title", "") for b in build_report(Sources(tuple(entries([older])))).walk()
    ]
    assert "Where the chain breaks" not in titles


def test_the_report_has_the_table_and_bars_per_model(tmp_path: Path) -> None:
    runs = [run(tmp_path / "a"), run(tmp_path / "b", model="blip2_opt_tiny", model_digest="m1")]
    report = build_report(Sources(tuple(entries(runs))))
    names = {block.name for block in report.walk() if hasattr(block, "name")}
    assert {
        "transitive_chain", "transitive_chain_llava-tiny", "transitive_chain_blip2-opt-tiny",
    } <= names  # fmt: skip


def test_the_bars_fill_the_axis_with_the_shares(tmp_path: Path) -> None:
    splits = chain_splits(entries([run(tmp_path / "run")]))
    png, pdf = chain_bars(splits, tmp_path / "bars")
    assert (png.suffix, pdf.suffix) == (".png", ".pdf")
    colours = Image.open(png).convert("RGB").getcolors(1 << 20)
    assert colours is not None
    count = {colour: n for n, colour in colours}
    carried, unseen = count[(0, 158, 115)], count[(0, 114, 178)]
    assert unseen > 3 * carried > 0, "12.5 % of one bar, against 37.5 % and a whole bar"


def test_the_gallery_shows_cases_of_every_class_and_says_which(tmp_path: Path) -> None:
    rows = entries([run(tmp_path)])
    (group,) = read_gallery(rows, cases=0).groups
    shown = {case.edit_id: dict(case.chain) for case in group.cases}
    assert {kinds["seen"] for kinds in shown.values()} == set(CLASSES)
    assert not {8, 9} & set(shown), "they have no naming question"
    assert all(case.picked == (CLASS,) for case in group.cases)
    of_class = [kinds["seen"] for kinds in shown.values()]
    assert max(of_class.count(name) for name in CLASSES) <= OF_A_CLASS + 2, "unseen ones besides"
    (everything,) = read_gallery(rows, cases=10).groups
    classes = {case.edit_id: case.classes for case in everything.cases}
    assert classes[7] == ("seen: not recognised", "unseen: recognised and not carried")
    assert classes[9] == ()


def test_the_page_filters_by_class(tmp_path: Path) -> None:
    run(tmp_path / "run")
    sources = read_sources([tmp_path / "run"])
    page = write_report(sources, tmp_path / "report").read_text(encoding="utf-8")
    assert '<option value="seen: not recognised">seen: not recognised</option>' in page
    assert 'data-chain="seen: carried by chance; unseen: recognised and not carried"' in page
    assert '<span class="chain">seen: recognised and carried; unseen' in page
    assert '<option value="class">of a class</option>' in page
    older = make_scored(
        tmp_path / "older", "ft", "transitive", {"reliability_s/token_accuracy": [1.0, 0.0]}
    )
    choices = _choices(read_gallery(entries([older])))
    assert (choices["chain"], CLASS in choices["picked"]) == ({}, False)


def test_what_was_recognised_may_be_judged_by_the_model_s_own_words(tmp_path: Path) -> None:
    own_words = [0.0, 1.0, 1.0, 1.0, 1.0, 0.0, None, None, 1.0, 1.0]
    scores: dict[str, Sequence[float | None]] = {
        "reliability_s/exact_match": GIVEN,
        "reliability_s/exact_match_before": BEFORE,
        "reliability_s/named_before": NAMED,
        "reliability_s_name/generation_match": own_words,
    }
    rows = entries([make_scored(tmp_path, "rome", "transitive", scores)])
    teacher_forced, by_words = chain_splits(rows)
    assert (teacher_forced.picture, by_words.picture) == ("seen", "seen, by its own words")
    assert (by_words.n, by_words.unasked) == (8, 2)
    assert {name: share.mean for name, share in by_words.shares.items()} == {
        CARRIED: 37.5, BY_CHANCE: 25.0, NOT_CARRIED: 25.0, NOT_RECOGNISED: 12.5,
    }  # fmt: skip
    table = chain_table([teacher_forced, by_words])
    assert table is not None
    assert any("evaluate.name_first" in note for note in table.notes)
