"""The report's page as a reader sees it: opened from disk in a browser, with scripts or without."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import report
from tests.browser import AA, LOWEST_CONTRAST, needs_chromium, started_browser
from tests.result_folders import draw_pictures, make_answered, make_training

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = [pytest.mark.e2e, needs_chromium]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 400, "height": 800}
HOSTILE = "<script>document.title = 'taken'</script><img src='http://example.invalid/x.png'>"


def scores(editor: str) -> dict[int, dict[str, float]]:
    """Eight edits; every editor fails others. Only FT is asked for what it says elsewhere."""
    beside = {"leak_same": 0.0} if editor == "ft" else {}
    return {
        edit: {
            "reliability_s": float(edit % 3 == len(editor) % 3),
            "generality_s": 1.0,
            "locality_i_far": edit / 8,
            **beside,
        }
        for edit in range(8)
    }


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of two editors and the unedited model in two scenarios, written by report.py."""
    root = tmp_path_factory.mktemp("page")
    pictures = draw_pictures(root / "images", range(7))  # that of edit 7 is missing
    folders = [
        make_answered(
            root / f"{editor}_{scenario}", scores(editor), editor, scenario, image_root=pictures,
            means={"Reliability_S": 12.3 if editor == "ft" else 45.6},
            texts={"post_text": HOSTILE} if editor == "mend" else None,
        ).folder
        for scenario in ("transitive", "multimodal")
        for editor in ("none", "ft", "mend")
    ]  # fmt: skip
    folders.append(make_training(root / "train"))
    assert report.main([*map(str, folders), "--output", str(root / "report")]) == 0
    return root / "report" / "report.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this file."""
    with started_browser() as browser:
        yield browser


@dataclass
class Watched:
    """An open page and what went wrong in it."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


def open_page(browser: Browser, file: Path, **options: Any) -> Watched:
    """Open the file as a user would, in a new context with these options."""
    page = browser.new_context(**{"viewport": DESKTOP, **options}).new_page()
    page.set_default_timeout(90_000)  # a slow machine is no failure
    watched = Watched(page)
    page.on("console", lambda message: watched.complaints.append(message.text))
    page.on("pageerror", lambda error: watched.complaints.append(str(error)))
    page.on("request", lambda request: watched.asked.append(request.url))
    page.goto(file.as_uri(), timeout=90_000)
    return watched


@pytest.fixture
def watched(browser: Browser, page_file: Path) -> Iterator[Watched]:
    """The page on a desktop, light, with scripts."""
    opened = open_page(browser, page_file)
    yield opened
    opened.page.context.close()


def shown_cases(page: Page) -> list[dict[str, str]]:
    """`data-` attributes of the cases that can be seen."""
    found: list[dict[str, str]] = page.evaluate(
        "() => [...document.querySelectorAll('details.case')]"
        ".filter((e) => e.offsetParent !== null).map((e) => ({...e.dataset}))"
    )
    return found


def test_it_opens_without_complaint_and_asks_nobody(watched: Watched) -> None:
    watched.page.locator("#failure-gallery").scroll_into_view_if_needed()
    watched.page.wait_for_load_state("networkidle")
    assert watched.complaints == []
    assert watched.asked, "the page itself was asked for"
    assert [url for url in watched.asked if not url.startswith(("file:", "data:"))] == []
    assert watched.page.title() == "Results", "no script of a result ran"


def test_a_request_would_be_seen(browser: Browser, tmp_path: Path) -> None:
    """The test above can fail: a page that asks the network is noticed, although nobody answers."""
    bad = tmp_path / "bad.html"
    bad.write_text("<img src='http://127.0.0.1:9/x.png'><script>undefined_name()</script>")
    opened = open_page(browser, bad)
    assert "http://127.0.0.1:9/x.png" in opened.asked
    assert any("undefined_name" in complaint for complaint in opened.complaints)
    opened.page.context.close()


def test_every_picture_is_decoded(watched: Watched) -> None:
    widths = watched.page.evaluate("() => [...document.images].map((i) => i.naturalWidth)")
    assert len(widths) == 2 + 1 + 1 + 1, "bars of two scenarios, heat map, matrix, curves"
    assert min(widths) > 100
    # Thumbnails are backgrounds; one that could not be decoded would have no size of its own.
    sizes = watched.page.evaluate(
        """async () => {
          const uris = new Set([...document.querySelectorAll('.thumb')]
            .map((e) => getComputedStyle(e).backgroundImage.slice(5, -2)));
          return Promise.all([...uris].map(async (uri) => {
            const image = new Image();
            image.src = uri;
            await image.decode();
            return [image.naturalWidth, image.naturalHeight];
          }));
        }"""
    )
    assert sizes == [[160, 100]] * 7
    assert watched.page.locator(".missing").first.text_content() == (
        f"7.png not found under image_root {watched.page.url[7:].rsplit('/', 2)[0]}/images"
    )


def test_the_numbers_of_the_tables_are_there(watched: Watched) -> None:
    tables = watched.page.locator("table.results")
    first = tables.nth(0)
    assert "Transitive scenario" in (first.locator("caption").text_content() or "")
    rows = first.locator("tbody tr").all_inner_texts()
    assert [("12.3" in row, "45.6" in row) for row in rows] == [
        (False, True),
        (True, False),
        (False, True),
    ]
    assert first.locator("td.best strong", has_text="45.6").count() == 1
    assert first.locator("td.second u", has_text="12.3").count() == 1
    assert watched.page.locator(".results caption", has_text="Cost").count() == 1


def test_answers_stand_in_the_page_as_text(watched: Watched) -> None:
    case = watched.page.locator(".case[data-editor=mend]").first
    assert case.locator("td.a").first.text_content() == HOSTILE
    assert watched.page.locator("td.a script, td.a img").count() == 0


def test_the_filter_hides_and_shows_cases(watched: Watched) -> None:
    page = watched.page
    everything = shown_cases(page)
    assert len(everything) == page.locator("details.case").count() > 20
    page.select_option("select[name=editor]", "ft")
    page.select_option("select[name=scenario]", "multimodal")
    page.select_option("select[name=picked]", "worst")
    shown = shown_cases(page)
    assert {(case["editor"], case["scenario"]) for case in shown} == {("ft", "multimodal")}
    assert all("worst" in case["picked"] for case in shown)
    assert 0 < len(shown) < len(everything)
    assert page.locator("#shown").text_content() == f"{len(shown)} of {len(everything)} cases"
    assert page.locator("section.group:visible").count() == 1
    for name in ("editor", "scenario", "picked"):
        page.select_option(f"select[name={name}]", "")
    assert shown_cases(page) == everything


def test_the_filter_of_probes_leaves_its_rows(watched: Watched) -> None:
    page = watched.page
    page.select_option("select[name=probe]", "leak_same")
    assert {case["editor"] for case in shown_cases(page)} == {"ft"}, "MEND was not asked"
    page.click("#toggle")
    names = page.locator(".case tbody tr:visible th").all_text_contents()
    assert set(names) == {"leak_same"}
    assert len(names) == len(shown_cases(page))


def test_cases_open_and_close(watched: Watched) -> None:
    page, rows = watched.page, watched.page.locator(".case tbody tr:visible")
    groups, cases = page.locator("section.group").count(), page.locator("details.case").count()
    assert page.locator("details.case[open]").count() == groups, "the first of each group"
    page.click("#toggle")
    assert page.locator("details.case[open]").count() == cases
    page.click("#toggle")
    assert rows.count() == 0
    page.locator("details.case summary").first.focus()
    page.keyboard.press("Enter")
    assert rows.count() > 0


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["phone", "desktop"])
def test_it_does_not_scroll_sideways(
    browser: Browser, page_file: Path, viewport: dict[str, int]
) -> None:
    opened = open_page(browser, page_file, viewport=viewport)
    opened.page.click("#toggle")
    width = opened.page.evaluate("() => document.documentElement.scrollWidth")
    assert width <= viewport["width"]
    boxes = opened.page.evaluate(
        "() => [...document.querySelectorAll('.box')].filter((b) => b.scrollWidth > b.clientWidth)"
        ".map((b) => getComputedStyle(b).overflowX)"
    )
    assert set(boxes) <= {"auto"}
    assert boxes or viewport is DESKTOP, "on a phone the tables scroll in their boxes"
    opened.page.context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(browser: Browser, page_file: Path, scheme: str) -> None:
    opened = open_page(browser, page_file, color_scheme=scheme)
    opened.page.click("#toggle")
    paper = opened.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    levels = [int(part) for part in paper.removeprefix("rgb(").removesuffix(")").split(",")]
    assert max(levels) < 60 if scheme == "dark" else min(levels) > 200
    ratio, where = opened.page.evaluate(LOWEST_CONTRAST)
    assert ratio >= AA, f"contrast {ratio:.2f} of {where[:80]}"
    opened.page.context.close()


def test_without_scripts_everything_is_shown(browser: Browser, page_file: Path) -> None:
    opened = open_page(browser, page_file, java_script_enabled=False)
    page = opened.page
    assert not page.locator("#filter").is_visible(), "a filter that cannot work is not offered"
    cases = page.locator("details.case")
    assert cases.count() > 20
    assert page.locator("details.case:visible").count() == cases.count()
    rows = page.locator(".case tbody tr")
    assert page.locator(".case tbody tr:visible").count() == rows.count()
    page.locator("nav a", has_text="Failure gallery").click()
    assert page.url.endswith("#failure-gallery")
    opened.page.context.close()


def test_it_prints_without_its_controls(browser: Browser, page_file: Path) -> None:
    """On white paper, whatever the screen looks like."""
    opened = open_page(browser, page_file, color_scheme="dark")
    page = opened.page
    page.emulate_media(media="print")
    assert not page.locator("nav").is_visible()
    assert not page.locator("#filter").is_visible()
    assert page.locator("table.results").first.is_visible()
    paper = page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == "rgb(255, 255, 255)"
    ratio, where = page.evaluate(LOWEST_CONTRAST)
    assert ratio >= AA, f"contrast {ratio:.2f} of {where[:80]}"
    assert page.pdf().startswith(b"%PDF")
    page.context.close()
