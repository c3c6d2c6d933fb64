"""Layout, marks and comparisons of the result tables."""

import json
from pathlib import Path

import pytest

from errors import DataError
from metrics.headlines import HEADLINES
from reporting.console import result_table
from reporting.formats import BEST, PLAIN, SECOND, Cell, to_latex, to_markdown
from reporting.labels import PAPER_SCENARIOS
from reporting.naming import entries
from reporting.page import to_html
from reporting.paper import paper_tables
from reporting.run_tables import run_markdown
from reporting.tables import cost_table, further_columns, scenario_table
from results.folder import RunResult
from tests.result_folders import make_run


@pytest.fixture
def runs(tmp_path: Path) -> list[RunResult]:
    """Three editors and the unedited model, given in no order."""
    return [
        make_run(tmp_path / "mend", "mend", means={"Reliability": 98.04, "Leak": 3.0}),
        make_run(tmp_path / "rome", "rome", means={"Reliability": 60.0, "Leak": 9.0}),
        make_run(tmp_path / "none", "none", means={"Reliability": 99.0, "Leak": 0.0}),
        make_run(tmp_path / "ft", "ft", means={"Reliability": 97.96, "Leak": 5.0}),
    ]


def test_rows_come_in_the_papers_order_with_the_unedited_model_first(runs: list[RunResult]) -> None:
    table = scenario_table(entries(runs))
    assert [row.heads[1] for row in table.rows] == ["Unedited", "FT", "MEND", "ROME"]
    assert [column.name for column in table.columns] == [
        *("Reliability", "Generality", "Portability", "Locality", "Stability"),
    ]
    assert table.rows[0].cells[0] == Cell("99.0", "3.0", PLAIN)


def test_best_and_second_are_marked_at_printed_precision(runs: list[RunResult]) -> None:
    rows = scenario_table(entries(runs)).rows
    assert [row.cells[0].text for row in rows] == ["99.0", "98.0", "98.0", "60.0"]
    assert [row.cells[0].mark for row in rows] == [PLAIN, BEST, BEST, SECOND]
    # A leak is best where it is lowest, and the unedited model's 0 is out of the race.
    assert [row.cells[0].mark for row in scenario_table(entries(runs), ["Leak"]).rows] == [
        PLAIN,
        SECOND,
        BEST,
        PLAIN,
    ]


def test_a_single_editor_is_not_the_best_of_anything(runs: list[RunResult]) -> None:
    alone = [run for run in runs if run.editor in ("none", "ft")]
    assert {cell.mark for row in scenario_table(entries(alone)).rows for cell in row.cells} == {
        PLAIN
    }


def test_models_are_ranked_apart(tmp_path: Path, runs: list[RunResult]) -> None:
    other = [
        make_run(tmp_path / f"b{name}", name, means={"Reliability": mean}, model="blip2_opt_tiny")
        for name, mean in (("ft", 10.0), ("mend", 20.0))
    ]
    rows = scenario_table(entries([*runs, *other])).rows
    assert [row.heads[0] for row in rows] == ["blip2_opt_tiny"] * 2 + ["llava_tiny"] * 4
    assert [row.cells[0].mark for row in rows[:2]] == [SECOND, BEST]


def test_metrics_without_records_are_dashes(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a", "ft", means={"Portability": None})
    second = make_run(tmp_path / "b", "mend")
    table = scenario_table(entries([first, second]))
    assert [row.cells[2] for row in table.rows] == [Cell(), Cell("50.0", "3.0", BEST)]
    assert "| - |" in to_markdown(table)
    assert " -- &" in to_latex(table)
    assert '<td class="number">-</td>' in to_html(table)
    assert "nan" not in to_markdown(table) + to_latex(table) + to_html(table)


def test_fewer_records_are_noted(tmp_path: Path) -> None:
    run = make_run(tmp_path, n_edits=12)
    assert "Fewer records than n: Reliability 10, Generality 10" in to_markdown(
        scenario_table(entries([run]))
    )


def test_real_models_stand_beside_the_paper(tmp_path: Path) -> None:
    run = make_run(
        tmp_path,
        "ft_as_run",
        "transitive",
        {"Reliability_S": 98.8, "Locality_I": None},
        model="llava",
    )
    table = scenario_table(entries([run]))
    assert [(*row.heads, row.n) for row in table.rows] == [
        ("LLaVA-1.5", "FT (as run)", "10"),
        ("LLaVA-1.5", "FT (as run), paper", ""),
        ("LLaVA-1.5", "FT (as run), difference", ""),
    ]
    assert [cell.text for cell in table.rows[1].cells][:2] == ["99.3", "99.2"]
    assert table.rows[2].cells[0].text == "-0.5"
    assert table.rows[2].cells[1].text == "-49.2"
    assert table.rows[2].cells[6] == Cell()


@pytest.mark.parametrize(
    ("model", "editor"),
    [
        ("llava_tiny", "ft"),
        ("llava", "none"),
        ("llava", "ft_l"),
        ("llava", "lora"),
        ("llava", "rome_at_prompt_last"),
    ],
)
def test_other_models_and_other_methods_have_no_paper_row(
    tmp_path: Path, model: str, editor: str
) -> None:
    run = make_run(tmp_path, editor, model=model)
    assert len(scenario_table(entries([run])).rows) == 1


def test_rome_has_no_multimodal_row_in_the_paper(tmp_path: Path) -> None:
    run = make_run(tmp_path, "rome", "multimodal", model="minigpt4")
    assert len(scenario_table(entries([run])).rows) == 1


def test_columns_of_the_paper_are_the_first_headlines() -> None:
    for scenario in PAPER_SCENARIOS:
        columns = paper_tables()[scenario]["columns"]
        assert [line.name for line in HEADLINES[scenario]][: len(columns)] == columns


def test_paper_tables_are_complete() -> None:
    for scenario in PAPER_SCENARIOS:
        table = paper_tables()[scenario]
        for editors in table["rows"].values():
            assert set(editors) == {"FT", "IKE", "MEND", "SERAC"} | (
                {"ROME"} if scenario != "multimodal" else set()
            )
            assert {len(numbers) for numbers in editors.values()} == {len(table["columns"])}
    assert paper_tables()["transitive"]["rows"]["LLaVA-1.5"]["ROME"][-1] == 57.9


def test_further_columns_are_what_the_paper_does_not_show(runs: list[RunResult]) -> None:
    assert further_columns(entries(runs)) == [
        ("Beside the paper's columns", "further", ("Stability_same", "Leak")),
        ("By exact match", "exact_match", ("Reliability_EM",)),
    ]


def test_markdown(runs: list[RunResult]) -> None:
    lines = to_markdown(scenario_table(entries(runs), ["Leak"])).splitlines()
    assert lines == [
        "| Model | Editor | n | Leak ↓ |",
        "| --- | --- | ---: | ---: |",
        "| llava_tiny | Unedited | 10 | 0.0 ± 3.0 |",
        "| llava_tiny | FT | 10 | <u>5.0</u> ± 3.0 |",
        "| llava_tiny | MEND | 10 | **3.0** ± 3.0 |",
        "| llava_tiny | ROME | 10 | 9.0 ± 3.0 |",
    ]


def test_latex(runs: list[RunResult]) -> None:
    text = to_latex(scenario_table(entries(runs), ["Leak", "Stability_same"]))
    assert r"\begin{tabular}{llrrr}" in text
    assert r"Model & Editor & $n$ & Leak $\downarrow$ & Stability\_same $\uparrow$ \\" in text
    assert r"llava\_tiny & Unedited & 10 & 0.0 $\pm$ 3.0" in text
    assert r" & FT & 10 & \underline{5.0} $\pm$ 3.0" in text
    assert r" & MEND & 10 & \textbf{3.0} $\pm$ 3.0" in text
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 1, 1]


@pytest.mark.parametrize(
    "change",
    [
        {"data": "folder"},
        {"data_digest": "d1"},
        {"prompt": "published"},
        {"positions": "all"},
        {"locality_i": "top10_rank"},
        {"model_digest": "m1"},
        {"n_edits": 11},
        {"generation": True},
        {"probe_digest": "p1"},
    ],
)
def test_runs_that_differ_in_more_than_the_editor_are_refused(
    tmp_path: Path, change: dict[str, object]
) -> None:
    first = make_run(tmp_path / "first", "ft")
    second = make_run(tmp_path / "second", "mend", "unimodal", None, **change)
    ((key, value),) = change.items()
    with pytest.raises(DataError) as caught:
        scenario_table(entries([first, second]))
    message = str(caught.value)
    assert f"{key} is {first.fact(key)!r} in {tmp_path / 'first'} but {value!r} in" in message
    assert str(tmp_path / "second") in message
    assert "\n" not in message


def test_models_may_differ_in_their_weights_and_known_edits(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", "ft")
    second = make_run(tmp_path / "second", "ft", model="blip2_opt", model_digest="m1", n_edits=9)
    assert len({row.heads[0] for row in scenario_table(entries([first, second])).rows}) == 2


def test_the_same_editor_twice_is_refused(tmp_path: Path) -> None:
    twice = [make_run(tmp_path / name, "ft") for name in ("a", "b")]
    with pytest.raises(DataError, match=r"ft on llava_tiny is both in .*a and in .*b"):
        scenario_table(entries(twice))


def test_paper_tables_are_valid_json_without_duplicates() -> None:
    path = Path(__file__).parents[3] / "reporting" / "paper_tables.json"

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=unique)


def test_table_md_shows_every_metric(tmp_path: Path) -> None:
    run = make_run(tmp_path, means={"Portability": None, "Leak": 7.0})
    text = run_markdown(run)
    assert "# MEND on llava_tiny, unimodal scenario" in text
    assert "| Reliability ↑ | 50.0 | 48.0 to 54.0 | 10 |" in text
    assert "| Portability ↑ | - | - | 0 |" in text
    assert "| Leak ↓ | 7.0 | 5.0 to 11.0 | 10 |" in text


def test_console_shows_the_papers_columns_and_names_the_file_with_the_rest(tmp_path: Path) -> None:
    table = result_table(make_run(tmp_path, means={"Locality": None}))
    assert list(table.columns[0].cells) == [
        *("Reliability ↑", "Generality ↑", "Portability ↑", "Locality ↑", "Stability ↑"),
    ]
    assert list(table.columns[1].cells) == ["50.0", "50.0", "50.0", "-", "50.0"]
    assert str(table.caption).endswith("\n3 more metrics: table.md")


def test_records_that_were_left_out_are_said_of_every_table(tmp_path: Path) -> None:
    gone = {"record": "record 3 of a.json", "subject": None, "reason": "no answer"}
    run = make_run(tmp_path / "a", "ft", left_out_records=[gone, gone])
    assert "10 edits, 2 records left out, seed 0" in run_markdown(run)
    assert "10 edits, 2 records left out, seed 0" in str(result_table(run).caption)
    rows = [run, make_run(tmp_path / "b", "mend", left_out_records=[]), make_run(tmp_path / "c")]
    (note,) = (n for n in scenario_table(entries(rows[:2])).notes if "left out" in n)
    assert "0 (MEND), 2 (FT)" in note
    assert not any("left out" in note for note in scenario_table(entries(rows[2:])).notes)
    with pytest.raises(DataError, match="left_out_records is 'none'"):
        make_run(tmp_path / "d", left_out_records="none")


def test_edits_that_overlap_with_the_training_are_said_beside_every_number(tmp_path: Path) -> None:
    shared = {
        "with": "checkpoint", "is_read": True, "edits": 4, "of": 10,
        "subject": {"n": 3, "of": 9, "first": ["Oslo"]},
        "fact": {"n": 0, "of": 10, "first": []},
        "folder": {"n": 1_173, "of": 2_847, "first": ["m.01"]},
    }  # fmt: skip
    unread = {**shared, "with": "data", "is_read": False}
    origin = {"source": "vlkeb", "origin": "there", "licence": "MIT"}
    run = make_run(tmp_path / "a", records={**origin, "overlap": shared})
    others = [
        make_run(tmp_path / "b", "ft", records={**origin, "overlap": unread}),
        make_run(tmp_path / "c", "lora", records={**origin, "overlap": {**shared, "edits": 0}}),
        make_run(tmp_path / "d", "none", records={**origin, "overlap": None}),
    ]
    said = (
        "4 of 10 edits overlap with the checkpoint's training: 3 of 9 subjects, "
        "1,173 of 2,847 picture folders"
    )
    assert said in run_markdown(run)
    assert f"\nOverlap: {said}" in str(result_table(run).caption)
    table = scenario_table(entries([run, *others]))
    assert [row.heads[1] for row in table.rows] == [
        "Unedited", "FT", "MEND (overlap)", "LoRA"
    ]  # fmt: skip
    (note,) = (note for note in table.notes if "verlap" in note)
    assert f"{said} (MEND)" in note
    assert "the training records, which this editor does not read: 3 of" in note
    assert "LoRA" not in note
    for clean in others[1:]:
        assert "verlap" not in run_markdown(clean) + str(result_table(clean).caption)


def test_a_list_with_both_kinds_of_ft_says_which_is_which(tmp_path: Path) -> None:
    run = make_run(tmp_path / "ft", "ft")
    as_run = make_run(tmp_path / "as_run", "ft_as_run")
    for table in (scenario_table(entries([run, as_run])), cost_table(entries([run, as_run]))):
        assert table.notes[-1].startswith("FT is fine-tuning as the paper's Table 4 has it")
        assert table.notes[-1].endswith("FT (as run) is what its authors ran.")
    assert not scenario_table(entries([as_run])).notes
