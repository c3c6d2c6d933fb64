"""The report as a value, and as Markdown: what it holds, in which order, and how it is escaped."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from errors import DataError
from reporting import document as under_test
from reporting.blocks import Block, Figure, Section, Span, Table, spans, text
from reporting.document import build_report, write_report
from reporting.gallery import Gallery
from reporting.markdown import markdown_page, markdown_text
from reporting.sources import read_sources
from results.files import EDITS
from tests.result_folders import make_answered, make_run, make_training

SCORES = {1: {"reliability": 0.0, "locality_far": 1.0}, 2: {"reliability": 1.0}}
WITH_PICTURES = {1: {"reliability_s": 0.0, "reliability_u": 1.0}, 2: {"reliability_s": 1.0}}
HOSTILE = "a|b <script>alert(1)</script> *x* `y` [z](http://w) ![p](q) _u_ <b>\n# head"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two editors in two scenarios, one of them also with many edits, and a training run."""
    root = tmp_path_factory.mktemp("runs")
    runs = [
        make_answered(root / f"{editor}_{scenario}", scores, editor, scenario).folder
        for scenario, scores in (("transitive", WITH_PICTURES), ("unimodal", SCORES))
        for editor in ("mend", "none", "ft")
    ]
    protocol = {"name": "sequential", "n": [1, 2]}
    point = {"Reliability": {"mean": 50.0, "ci95": [40.0, 60.0], "n": 2}}
    sequence = make_answered(
        root / "sequence", SCORES, protocol=protocol, curve={"1": point, "2": point}
    )
    batch = make_answered(
        root / "batch", SCORES, protocol=protocol | {"name": "batch"}, curve={"1": point}
    )
    return [*runs, batch.folder, sequence.folder, make_training(root / "train")]


def titles(blocks: tuple[Block, ...]) -> list[str]:
    return [block.title for block in blocks if isinstance(block, Section)]


def test_sections_stand_in_order(folders: list[Path]) -> None:
    document = build_report(read_sources(folders))
    assert titles(document.blocks) == [
        "Unimodal scenario",
        "Transitive scenario",
        "From text to pictures",
        "The whole matrix",
        "Edits in sequence, unimodal scenario",
        "Edits in one batch, unimodal scenario",
        "Cost",
        "Training",
        "Provenance",
        "Failure gallery",
    ]
    unimodal = next(block for block in document.blocks if isinstance(block, Section))
    assert titles(unimodal.blocks) == [
        "Beside the paper's columns", "By exact match", "Pair by pair"
    ]  # fmt: skip
    (gallery,) = [block for block in document.walk() if isinstance(block, Gallery)]
    assert [group.title for group in gallery.groups] == [
        "FT on llava_tiny, unimodal",
        "MEND on llava_tiny, unimodal",
        "MEND on llava_tiny, unimodal, in one batch",
        "MEND on llava_tiny, unimodal, in sequence",
        "FT on llava_tiny, transitive",
        "MEND on llava_tiny, transitive",
    ]


def test_files_have_names_of_their_own(folders: list[Path]) -> None:
    blocks = list(build_report(read_sources(folders)).walk())
    for names in (
        [block.name for block in blocks if isinstance(block, Figure)],
        [block.name for block in blocks if isinstance(block, Table) and block.name],
    ):
        assert len(set(names)) == len(names) > 3
    assert all(block.alt for block in blocks if isinstance(block, Figure))


def test_describing_writes_nothing(folders: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables, figures and pages come after all that can be wrong with the runs."""

    def refuse(*_: object) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(under_test, "write_text", refuse)
    monkeypatch.setattr("results.folder.Path.mkdir", refuse)
    assert build_report(read_sources(folders)).blocks


def test_a_damaged_folder_leaves_no_report(tmp_path: Path) -> None:
    folder = make_answered(tmp_path / "run", SCORES).folder
    (folder / EDITS).write_bytes(b"PAR1 damaged")
    with pytest.raises(DataError, match=r"run/edits\.parquet cannot be read as parquet"):
        write_report(read_sources([folder]), tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_an_unfinished_run_is_no_part_of_a_report(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole")
    (tmp_path / "killed" / "partial").mkdir(parents=True)
    with pytest.raises(DataError, match="was not finished"):
        read_sources([whole.folder, tmp_path / "killed"])


def test_the_unedited_model_alone_has_no_gallery(tmp_path: Path) -> None:
    make_run(tmp_path / "run", "none")
    document = build_report(read_sources([tmp_path / "run"]))
    assert titles(document.blocks) == ["Unimodal scenario", "Cost", "Provenance"]


def rendered(source: str) -> str:
    """HTML of a Markdown text, raw HTML passed through as GitHub's parser does."""
    return (
        MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(source)
    )


def test_markdown_shows_the_worst_cases_escaped(tmp_path: Path) -> None:
    texts = dict.fromkeys(("subject", "question", "target", "pre_text", "post_text"), HOSTILE)
    folder = make_answered(tmp_path / "run", SCORES, texts=texts).folder
    page = markdown_page(build_report(read_sources([folder])))
    (line,) = [line for line in page.splitlines() if line.startswith("| 1 |")]
    html = rendered(page)
    row = next(part for part in html.split("<tr>") if part.startswith("\n<td>1</td>"))
    assert row.count("<td") == 8, line
    assert "reliability</td>" in row
    assert "0 %</td>" in row
    for tag in ("<script", "<b>", "<em>", "<code>", "<a ", "<img"):
        assert tag not in row, tag
    assert row.count("a|b &lt;script&gt;alert(1)&lt;/script&gt; *x* `y` [z](http://w)") == 4


@pytest.mark.parametrize(
    "plain", [HOSTILE, "1 < 2 & 3 > 2", "~~gone~~ # no", r"a\*b\|c", "__init__ snake_case", "&lt;"]
)
def test_markdown_text_comes_back_as_it_was(plain: str) -> None:
    """What a reader sees is the text, on one line."""
    html = rendered(markdown_text(plain))
    assert html.startswith("<p>")
    shown = html.removeprefix("<p>").removesuffix("</p>\n")
    assert "<" not in shown
    for entity, sign in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        shown = shown.replace(entity, sign)
    assert shown == " ".join(plain.split())


def test_spans_keep_their_marks_and_blanks() -> None:
    page = markdown_page(
        Section(
            "T",
            (
                text("a ", Span("b*", "bold"), ", ", Span("c", "underlined"), " d"),
                text("at ", Span("x`y", "code"), "."),
            ),
        )
    )
    assert page == "# T\n\na **b\\***, <u>c</u> d\n\nat `` x`y ``.\n"
    assert "".join(span.text for span in spans("a ", Span("b"))) == "a b"


@pytest.mark.parametrize("name", ["blocks", "formats", "gallery", "page", "style"])
def test_examples(name: str) -> None:
    found = doctest.testmod(importlib.import_module(f"reporting.{name}"))
    assert found.failed == 0
    assert found.attempted > 0
