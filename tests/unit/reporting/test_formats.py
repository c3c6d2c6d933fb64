"""One table in Markdown, LaTeX and HTML."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from reporting.formats import (
    APART,
    BEST,
    DIFFERENCE,
    LOWER,
    PAPER,
    SECOND,
    Cell,
    Column,
    ResultTable,
    Row,
    fewer_records,
    metric_column,
    plain_text,
    to_latex,
    to_markdown,
)
from reporting.naming import entries
from reporting.page import to_html
from reporting.tables import cost_table, scenario_table
from tests.result_folders import make_run

TABLE = ResultTable(
    "A & <B>",
    ("Model", "Editor"),
    (metric_column("Locality_I"), metric_column("Leak"), Column("Plain")),
    (
        Row(("m<1>", "FT | x"), "10", (Cell("98.0", "1.5", BEST), Cell("3.0", "", SECOND), Cell())),
        Row(("m<1>", "IKE"), "9", (Cell("97.5", "2.0", is_tied=True), Cell(), Cell())),
        Row(("m<1>", "IKE, paper"), "", (Cell("97.0"), Cell("-0.5"), Cell()), PAPER),
        Row(("m2", "A − B"), "8", (Cell("-1.5", "", APART, "[-2.0, -1.0]"), Cell(), Cell())),
        Row(("m2", "A, difference"), "", (Cell("+0.5"), Cell(), Cell()), DIFFERENCE),
    ),
    ("A note with 5 % & <tags>.",),
)


def test_markdown_marks_and_escapes() -> None:
    assert to_markdown(TABLE).splitlines() == [
        "| Model | Editor | n | Locality_I ↑ | Leak ↓ | Plain |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
        r"| m&lt;1&gt; | FT \| x | 10 | **98.0** ± 1.5 | <u>3.0</u> | - |",
        "| m&lt;1&gt; | IKE | 9 | 97.5 ± 2.0 † | - | - |",
        "| m&lt;1&gt; | IKE, paper |  | 97.0 | -0.5 | - |",
        "| m2 | A − B | 8 | **-1.5** [-2.0, -1.0] | - | - |",
        "| m2 | A, difference |  | +0.5 | - | - |",
        "",
        "A note with 5 % &amp; &lt;tags&gt;.",
    ]


def test_latex_marks_and_escapes() -> None:
    lines = to_latex(TABLE).splitlines()
    assert lines[2] == r"\caption{A \& <B>. A note with 5 \% \& <tags>.}"
    assert lines[3] == r"\begin{tabular}{llrrrr}"
    assert lines[5] == (
        r"Model & Editor & $n$ & Locality\_I $\uparrow$ & Leak $\downarrow$ & Plain \\"
    )
    assert lines[7:13] == [
        r"m<1> & FT | x & 10 & \textbf{98.0} $\pm$ 1.5 & \underline{3.0} & -- \\",
        r" & IKE & 9 & 97.5 $\pm$ 2.0$^{\dagger}$ & -- & -- \\",
        r" & IKE, paper &  & 97.0 & $-$0.5 & -- \\",
        r"\midrule",
        r"m2 & A $-$ B & 8 & \textbf{$-$1.5} [$-$2.0, $-$1.0] & -- & -- \\",
        r" & A, difference &  & +0.5 & -- & -- \\",
    ]


def test_html_is_well_formed_escaped_and_without_styles() -> None:
    written = to_html(TABLE)
    table = ET.fromstring(written)
    assert (table.tag, table.get("class")) == ("table", "results")
    assert table.findtext("caption") == "A & <B>"
    heads = [cell.text for cell in table.findall("thead/tr/th")]
    assert heads == ["Model", "Editor", "n", "Locality_I ↑", "Leak ↓", "Plain"]
    assert all(cell.get("scope") == "col" for cell in table.findall("thead/tr/th"))
    groups = table.findall("tbody")
    assert [group.find("tr/th").get("rowspan") for group in groups] == ["3", "2"]
    assert [row.get("class") for row in table.iter("tr")][1:6] == [
        *("measured", "measured", "paper", "measured", "difference"),
    ]
    cells = [cell for row in groups[0].findall("tr") for cell in row.findall("td")]
    assert ["".join(cell.itertext()) for cell in cells[:8]] == [
        *("10", "98.0 ± 1.5", "3.0", "-", "9", "97.5 ± 2.0†", "-", "-"),
    ]
    assert [cell.get("class") for cell in cells[1:6]] == [
        *("number best", "number second", "number", "number", "number tied"),
    ]
    assert groups[0].findtext("tr/td/strong") == "98.0"
    assert groups[0].findtext("tr/td/u") == "3.0"
    assert groups[1].find("tr/td[@class='number apart']/strong").text == "-1.5"
    assert groups[1].findtext("tr/td/span[@class='interval']") == "[-2.0, -1.0]"
    assert table.find("tfoot/tr/td").get("colspan") == "6"
    assert table.findtext("tfoot/tr/td") == TABLE.notes[0]
    assert "style" not in written


def test_a_cell_as_plain_text() -> None:
    texts = [plain_text(cell) for row in TABLE.rows[:4] for cell in row.cells[:1]]
    assert texts == ["98.0 ± 1.5", "97.5 ± 2.0 †", "97.0", "-1.5 [-2.0, -1.0]"]


def counted(*rows: tuple[str, str, str, int | None]) -> tuple[str, ...]:
    return fewer_records(
        [Row((model, editor), n, (Cell("1.0", n=own),)) for model, editor, n, own in rows],
        (Column("Portability"),),
    )


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        ([("a", "FT", "9", 9), ("a", "IKE", "9", 9)], None),
        ([("a", "FT", "9", None), ("a", "IKE", "9", 0)], None),
        ([("a", "FT", "9", 4), ("a", "FT, paper", "", None), ("b", "FT", "9", 4)], "4"),
        (
            [("a", "FT", "9", 4), ("a", "IKE", "9", 4), ("b", "FT", "9", 5)],
            "4 (a), Portability 5 (b)",
        ),
        ([("a", "FT", "9", 4), ("a", "IKE", "9", 9), ("b", "FT", "9", 9)], "4 (a FT)"),
    ],
)
def test_fewer_records_are_said_with_the_rows_they_belong_to(
    rows: list[tuple[str, str, str, int | None]], note: str | None
) -> None:
    expected = () if note is None else (f"Fewer records than n: Portability {note}.",)
    assert counted(*rows) == expected


def test_costs(tmp_path: Path) -> None:
    runs = [
        make_run(
            tmp_path / "m", "mend", "transitive", trained_parameters=1234567, seconds_per_edit=0.034
        ),
        make_run(tmp_path / "n", "none", trained_parameters=0, peak_memory_bytes=None),
        make_run(tmp_path / "o", "ike", seconds_per_edit=None, answer_seconds_per_edit=None),
    ]
    table = cost_table(entries(runs))
    assert [column.better for column in table.columns] == [LOWER] * 4
    assert [[*row.heads, row.n, *(cell.text for cell in row.cells)] for row in table.rows] == [
        ["unimodal", "llava_tiny", "Unedited", "10", "0", "0.25", "0.5", "-"],
        ["unimodal", "llava_tiny", "IKE", "10", "-", "-", "-", "1.00"],
        ["transitive", "llava_tiny", "MEND", "10", "1,234,567", "0.034", "0.5", "1.00"],
    ]
    lines = to_markdown(table).splitlines()
    assert lines[0] == (
        "| Scenario | Model | Editor | n | Trained parameters ↓ | s / edit ↓ | s / its answers ↓ "
        "| Peak memory (GiB) ↓ |"
    )
    assert lines[-1].startswith("Seconds are means over n edits")


def test_the_caption_says_what_differs_from_the_papers_runs(tmp_path: Path) -> None:
    table = scenario_table(entries([make_run(tmp_path, "ft", model="llava")]))
    assert "data is 'world', published 'tmke'" in table.notes[-1]
    assert "n_edits is 10, published 1,324" in table.notes[-1]
    assert not scenario_table(entries([make_run(tmp_path / "tiny", "ft")])).notes
