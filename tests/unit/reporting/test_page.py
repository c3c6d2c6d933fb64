"""The HTML page: self-contained, escaped, and well formed for readers of all kinds."""

from __future__ import annotations

import base64
import hashlib
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from reporting.blocks import FIGURES, Figure, Section, text
from reporting.document import PAGE, build_report, write_report
from reporting.page import html_page
from reporting.sources import read_sources
from tests.result_folders import draw_pictures, make_answered, make_training

HOSTILE = "</script></style><script>alert(1)</script><img src=x onerror=alert(2)>\"' {{ 7 * 7 }}"
SCORES = {
    edit: {"reliability_s": edit / 4, "portability": 0.0, "locality_i_far": 1.0, "leak_same": 0.0}
    for edit in range(4)
}
VOID = {"meta", "img", "br", "input"}


@dataclass
class Parsed(HTMLParser):
    """Elements of a page as (name, attributes), with the text of each."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    words: list[tuple[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.words.append((self.open[-1] if self.open else "", data))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def ids(self) -> list[str]:
        return [id_ for _, attributes in self.elements if (id_ := attributes.get("id"))]


def parse(page: str) -> Parsed:
    parsed = Parsed()
    parsed.feed(page)
    parsed.close()
    assert parsed.open == [], "every element is closed"
    return parsed


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two editors in two scenarios, with pictures and a training run."""
    root = tmp_path_factory.mktemp("page")
    pictures = draw_pictures(root / "images", range(3))  # that of edit 3 is missing
    folders = [
        make_answered(
            root / f"{editor}_{scenario}", SCORES, editor, scenario, image_root=pictures
        ).folder
        for scenario in ("transitive", "multimodal")
        for editor in ("mend", "ft")
    ]
    write_report(read_sources([*folders, make_training(root / "train")]), root / "report")
    return root / "report"


@pytest.fixture(scope="module")
def page(output: Path) -> Parsed:
    """Its page, parsed."""
    return parse((output / PAGE).read_text(encoding="utf-8"))


def test_it_needs_nothing_but_itself(output: Path, page: Parsed) -> None:
    for attributes in (attributes for _, attributes in page.elements):
        for name in ("src", "href", "srcset", "action", "data"):
            target = attributes.get(name) or ""
            assert target.startswith(("data:", "#")) or not target, target[:80]
    assert not page.all("link")
    style = next(words for tag, words in page.words if tag == "style")
    assert set(re.findall(r"url\((.{16})", style)) == {"data:image/jpeg;"}
    assert "@import" not in style
    assert len((output / PAGE).read_bytes()) < 2_000_000


def test_its_policy_lets_its_own_script_run_and_no_other(page: Parsed) -> None:
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    (script,) = [words for tag, words in page.words if tag == "script"]
    own = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == f"'sha256-{own}'"
    assert rules["img-src"] == "data:"


def test_every_text_of_a_result_is_escaped(tmp_path: Path) -> None:
    texts = dict.fromkeys(("subject", "question", "target", "pre_text", "post_text"), HOSTILE)
    pictures = tmp_path / HOSTILE.replace("/", "")  # a folder that is not there
    run = make_answered(
        tmp_path / "<b>run", SCORES, "ft", "multimodal", texts=texts, image_root=pictures,
        model=HOSTILE, data=HOSTILE, prompt=HOSTILE, versions={HOSTILE: HOSTILE},
    )  # fmt: skip
    # The editor's label is in tables too; a probe is a value of the filter.
    make_answered(tmp_path / "b", {1: {HOSTILE: 0.0, "reliability_s": 0}}, HOSTILE, "transitive")
    document = build_report(read_sources([run.folder, tmp_path / "b"]))
    for block in document.walk():
        if isinstance(block, Figure):
            drawn = tmp_path / "report" / FIGURES / f"{block.name}.png"
            drawn.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4)).save(drawn)
    found = parse(html_page(document, tmp_path / "report"))
    assert len(found.all("script")) == 1
    assert len(found.all("style")) == 1
    assert not [name for name, attributes in found.elements if "onerror" in attributes]
    assert len(found.all("img")) == sum(isinstance(b, Figure) for b in document.walk()) - 2
    shown = " ".join(words for _, words in found.words)
    assert shown.count("<script>alert(1)</script>") > 5 * len(SCORES)
    assert "{{ 7 * 7 }}" in shown


def test_headings_go_down_one_step_at_a_time(page: Parsed) -> None:
    levels = [int(name[1]) for name, _ in page.elements if re.fullmatch("h[1-6]", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below - above <= 1 for above, below in pairwise(levels))


def test_contents_lead_to_every_section(page: Parsed) -> None:
    assert max(Counter(page.ids()).values()) == 1
    links = [a["href"] for a in page.all("a") if a["href"] != "#content"]
    sections = [
        section["aria-labelledby"]
        for section in page.all("section")
        if "aria-labelledby" in section
    ]
    assert links == [f"#{name}" for name in sections if name]
    assert set(sections) <= set(page.ids())


def test_sections_of_one_title_have_two_ids(tmp_path: Path) -> None:
    twins = Section("T", (Section("A b", (Section("A b", ()),)), Section("A  b!", ()), text("x")))
    assert parse(html_page(twins, tmp_path)).ids() == ["content", "a-b", "a-b-2", "a-b-3"]


def test_pictures_and_controls_are_named(page: Parsed) -> None:
    assert page.all("html")[0]["lang"] == "en"
    assert page.all("img")
    for image in page.all("img"):
        assert image["alt"]
        assert int(image["width"] or 0) > 0
    for name, attributes in page.elements:
        if attributes.get("role") in ("img", "group") or name in ("form", "nav"):
            assert attributes.get("aria-label"), name
    assert len(page.all("label")) == len(page.all("select")) == 5
    assert {select["name"] for select in page.all("select")} == {
        *("editor", "model", "scenario", "picked", "probe")
    }


def test_a_picture_is_in_the_page_once(output: Path, page: Parsed) -> None:
    """Edits 0-2 have a picture each; every probe of every editor shows it."""
    source = (output / PAGE).read_text(encoding="utf-8")
    rules = re.findall(r"\.t-(\w+)\{[^}]*url\((data:image/jpeg;base64,[^)]+)\)", source)
    assert len(rules) == len(dict(rules)) == len({uri for _, uri in rules}) == 3
    shown = Counter(
        name
        for span in page.all("span")
        for name in (span.get("class") or "").split()
        if name.startswith("t-")
    )
    assert shown.keys() == {f"t-{key}" for key, _ in rules}
    assert min(shown.values()) > 10
    assert "3.png" in source
    assert "not found under image_root" in source


def test_a_table_drawn_as_a_picture_is_left_out(tmp_path: Path) -> None:
    def draw(base: Path, colour: str) -> list[Path]:
        Image.new("RGB", (3, 2), colour).save(base.with_suffix(".png"))
        return []

    shown = Figure("a", partial(draw, colour="red"), "a red field", "Red.")
    left_out = Figure("b", partial(draw, colour="blue"), "a blue field", repeats_table=True)
    (tmp_path / FIGURES).mkdir()
    for figure in (shown, left_out):
        figure.draw(tmp_path / FIGURES / figure.name)
    written = html_page(Section("T", (shown, left_out)), tmp_path)
    assert 'width="3" height="2" alt="a red field"' in written
    assert "<figcaption>Red.</figcaption>" in written
    assert "blue" not in written.split("</style>")[1]


def test_cases_say_what_the_filter_asks(page: Parsed) -> None:
    cases = page.all("details")
    assert len(cases) == 4 * len(SCORES)
    assert all("open" in case for case in cases), "without a script everything is shown"
    assert {case["data-editor"] for case in cases} == {"ft", "mend"}
    assert Counter(case["data-picked"] for case in cases) == {"worst random": 16}
    probes = {row["data-probe"] for row in page.all("tr") if "data-probe" in row}
    assert probes == set(SCORES[0])
    assert {form.get("hidden", "absent") for form in page.all("form")} == {None}


def test_scores_are_graded(output: Path) -> None:
    source = (output / PAGE).read_text(encoding="utf-8")
    row = r'<tr data-probe="{}">.*?<td class="number (\w+)">(\d+) %</td>'
    found = set(re.findall(row.format("reliability_s"), source, re.DOTALL))
    assert found == {("bad", "0"), ("part", "25"), ("part", "50"), ("part", "75")}
    assert set(re.findall(row.format("leak_same"), source, re.DOTALL)) == {("good", "0")}


def test_equal_reports_are_equal_pages(output: Path, tmp_path: Path) -> None:
    root = output.parent
    folders = [path for path in sorted(root.iterdir()) if (path / "summary.json").is_file()]
    document = build_report(read_sources([*folders, root / "train"]))
    assert html_page(document, output) == (output / PAGE).read_text(encoding="utf-8")
