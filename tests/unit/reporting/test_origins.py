"""Where records come from and by whose licence, in tables, pages and what is printed."""

from pathlib import Path

import pytest
from rich.console import Console

from errors import DataError
from reporting.card import card_tables
from reporting.console import result_table
from reporting.document import write_report
from reporting.formats import to_latex, to_markdown
from reporting.naming import entries
from reporting.origins import origin_notes
from reporting.run_tables import run_markdown
from reporting.sources import read_sources
from reporting.tables import scenario_table
from results.folder import RunResult, parse_summary
from tests.result_folders import make_run, summary

MIT = {"source": "zsre", "origin": "https://example.org/zsre", "licence": "MIT"}
SILENT = {"source": "mcmke", "origin": "https://example.org/a_b", "licence": "not stated"}


def judged(folder: Path, editor: str, **records: object) -> RunResult:
    return make_run(folder, editor, data="mcmke", records={**SILENT, **records})


def test_a_source_without_a_licence_is_named_as_such(tmp_path: Path) -> None:
    run = judged(tmp_path, "ft")
    said = "Records of mcmke: licence not stated; origin https://example.org/a_b."
    assert origin_notes(entries([run])) == (said,)
    table = scenario_table(entries([run]))
    assert said in to_markdown(table).replace("\\", "")
    assert said.replace("_", r"\_") in to_latex(table)
    assert said in run_markdown(run)
    assert said in card_tables([run]).replace("\\", "")


def test_what_trained_an_editor_is_named_where_it_is_another_source(tmp_path: Path) -> None:
    rows = [
        judged(tmp_path / "a", "ft", trained_on=None),
        judged(tmp_path / "b", "mend", trained_on=MIT),
        judged(tmp_path / "c", "serac", trained_on=SILENT),
        judged(tmp_path / "d", "lora", trained_on={**SILENT, "licence": "MIT"}),
    ]
    assert origin_notes(entries(rows))[1:] == (
        "Trained on records of zsre (MEND): licence MIT; origin https://example.org/zsre.",
        "Trained on records of mcmke (LoRA): licence MIT; origin https://example.org/a_b.",
    )


def test_what_an_editor_shows_is_named_where_it_is_another_source(tmp_path: Path) -> None:
    run = judged(tmp_path, "ike", trained_on=None, shown=MIT)
    said = "Shown are records of zsre (IKE): licence MIT; origin https://example.org/zsre."
    assert origin_notes(entries([run]))[1:] == (said,)


def test_how_many_probes_were_drawn_is_said(tmp_path: Path) -> None:
    run = judged(
        tmp_path, "ft", drawn={"diff_type_entity_question": 1, "same_type_entity_question": 9}
    )
    assert origin_notes(entries([run]))[1:] == (
        "Drawn from other records of the source: diff_type_entity_question of 1 edit, "
        "same_type_entity_question of 9 edits.",
    )


def test_the_printed_table_says_it(tmp_path: Path) -> None:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(result_table(judged(tmp_path / "run", "mend", trained_on=MIT)))
    said = " ".join(capture.get().split())
    assert "mcmke: licence not stated; trained on zsre: licence MIT 3 more metrics" in said


def test_the_report_says_it_on_its_page_and_beside_its_tables(tmp_path: Path) -> None:
    judged(tmp_path / "run", "mend", trained_on=MIT)
    write_report(read_sources([tmp_path / "run"]), tmp_path / "report")
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text().replace("\\", "")
        assert text.count("Records of mcmke: licence not stated") == 4, "tables, Provenance"
        assert text.count("Trained on records of zsre (MEND): licence MIT") == 4


def test_results_that_do_not_say_are_shown_without_it(tmp_path: Path) -> None:
    run = make_run(tmp_path, "ft")
    assert origin_notes(entries([run])) == ()
    assert "licence" not in run_markdown(run)


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ({}, "records.source is None"),
        ({**SILENT, "licence": None}, "records.licence is None"),
        ({**SILENT, "trained_on": "zsre"}, "records.trained_on is 'zsre'"),
        ({**SILENT, "trained_on": {**MIT, "origin": 3}}, "records.trained_on.origin is 3"),
        ({**SILENT, "shown": []}, r"records.shown is \[\]"),
        ({**SILENT, "drawn": {"a": "b"}}, r"records.drawn is \{'a': 'b'\}"),
        ({**SILENT, "naming": ["built"]}, r"records.naming is \['built'\]"),
    ],
)
def test_a_result_that_says_it_otherwise_is_refused(
    tmp_path: Path, records: dict[str, object], said: str
) -> None:
    content = summary("ft", records=records, metrics={})
    with pytest.raises(DataError, match=said):
        parse_summary(content, tmp_path)
