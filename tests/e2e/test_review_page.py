"""The review page as a reviewer uses it: opened from disk, decided by keys, saved and read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from construction.decisions import apply_decisions, check_current, read_decisions
from construction.records import Constructed, construct_records
from construction.review import PAGE, review_page
from datamodules.picture_folder import PictureFolder
from tests.answered_rows import book, draw, person, with_locality
from tests.browser import AA, LOWEST_CONTRAST, needs_chromium, started_browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

pytestmark = [pytest.mark.e2e, needs_chromium]
HOSTILE = (
    "</script><script>document.title = 'taken'</script><img src='http://example.invalid/x.png'>"
)
ROWS = [with_locality(book(n), "snow.png") for n in (1, 3, 5)] + [person(n) for n in (1, 3)]


class Review:
    """A page of records, and the records as they are now."""

    def __init__(self, folder: Path) -> None:
        self.pictures = PictureFolder(draw(ROWS, folder / "images"))
        self.file, self.constructed = folder / PAGE, construct_records(ROWS)
        self.write(self.constructed)

    def write(self, constructed: list[Constructed], **more: Any) -> None:
        page = review_page(HOSTILE, constructed, self.pictures, **more)
        self.file.write_text(page, encoding="utf-8")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with started_browser() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """What remembers decisions; it complains of nothing, and asks nobody."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(90_000)  # a slow machine is no failure
    complaints: list[str] = []
    context.on("console", lambda message: complaints.append(message.text))
    context.on("weberror", lambda error: complaints.append(str(error.error)))
    context.on(
        "request",
        lambda request: (
            complaints.append(request.url)
            if not request.url.startswith(("file:", "data:", "blob:"))
            else None
        ),
    )
    yield context
    context.close()
    assert complaints == []


@pytest.fixture
def review(tmp_path: Path) -> Review:
    return Review(tmp_path)


def opened(context: BrowserContext, review: Review) -> Page:
    page = context.new_page()
    page.goto(review.file.as_uri())
    settle(page)
    return page


def reload(page: Page) -> None:
    page.reload()
    settle(page)


def settle(page: Page) -> None:
    """Waits until the page was painted: a browser drops keys that come before."""
    page.evaluate(
        "() => new Promise((go) => requestAnimationFrame(() => requestAnimationFrame(go)))"
    )


def subject(page: Page) -> str | None:
    return page.locator("main h2").text_content()


def counts(page: Page) -> str | None:
    return page.locator("#counts").text_content()


def saved(page: Page, folder: Path) -> Path:
    with page.expect_download() as download:
        page.keyboard.press("s")
    assert download.value.suggested_filename == "decisions.json"
    download.value.save_as(folder / "decisions.json")
    return folder / "decisions.json"


def test_a_review_by_keys_is_saved_and_applied(
    context: BrowserContext, review: Review, tmp_path: Path
) -> None:
    page = opened(context, review)
    assert page.title() == f"Review of {HOSTILE}", "and no script of a table ran"
    assert counts(page) == "0 of 5 decided: 0 accepted, 0 edited, 0 rejected"
    widths = page.evaluate("() => [...document.images].map((image) => image.naturalWidth)")
    assert widths == [24] * 5, "of the record that is shown"
    page.keyboard.press("a")
    assert subject(page) == "Book 3"
    page.keyboard.press("r")
    page.keyboard.press("e")
    page.fill("textarea[name=entity_type]", "novel")
    page.fill("textarea[name=paraphrase]", " By whom is Book 5? ")
    page.fill("textarea[name=diff_type_answer]", "")
    page.check("input[name='without different_type']")
    page.keyboard.press("Control+Enter")
    assert subject(page) == "Person 1"
    page.keyboard.press("n")
    page.keyboard.type("a note, with an a and an r")
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    assert counts(page) == "4 of 5 decided: 2 accepted, 1 edited, 1 rejected"
    file = saved(page, tmp_path)
    assert page.locator("#message").text_content() == "Saved 4 decisions; 1 records have none yet."

    decisions = read_decisions(file)
    reviewed = apply_decisions(review.constructed, decisions, review.pictures)
    check_current(reviewed, file)
    ids = [one.id for one in review.constructed]
    assert [one.id for one in reviewed.records] == [ids[0], ids[2], ids[3]]
    assert (reviewed.edited, reviewed.rejected, reviewed.undecided) == (
        [ids[2]],
        [ids[1]],
        [ids[4]],
    )
    assert decisions[3].note == "a note, with an a and an r"
    edited = reviewed.records[1].record
    assert edited.entity_type == "novel"
    assert edited.rephrase_question is not None
    assert edited.rephrase_question.rephrase_question == "By whom is Book 5?"
    asked = "Who is the author of the novel in the image?"
    assert edited.knowledge_edit.image_question == asked, "the type's name goes along"
    assert edited.same_type_entity_question is not None
    assert edited.same_type_entity_question.image_question == asked
    assert edited.diff_type_entity_question is None


def test_nothing_is_lost_when_the_page_is_closed_or_made_anew(
    context: BrowserContext, review: Review, tmp_path: Path
) -> None:
    # A private window keeps what pages store in memory alone, for as long as one of them is open.
    (tmp_path / "beside.html").write_text("<title>open</title>", encoding="utf-8")
    context.new_page().goto((tmp_path / "beside.html").as_uri())
    page = opened(context, review)
    for key in ("a", "r", "a"):
        page.keyboard.press(key)
    page.keyboard.press("n")
    page.keyboard.type("undecided")
    page.close()
    again = opened(context, review)
    assert counts(again) == "3 of 5 decided: 2 accepted, 0 edited, 1 rejected"
    assert (subject(again), again.input_value("#note")) == ("Person 1", "undecided")
    file = saved(again, tmp_path)
    again.close()

    # The first row was answered anew: its decision no longer holds, and the others do.
    answers = ROWS[0].answers.model_copy(update={"paraphrase": "Book 1 is by whom?"})
    rows = [ROWS[0].model_copy(update={"answers": answers}), *ROWS[1:]]
    review.write(construct_records(rows))
    page = opened(context, review)
    assert counts(page) == "2 of 5 decided: 1 accepted, 0 edited, 1 rejected"
    assert subject(page) == "Book 1"
    page.set_input_files("#load", file)
    page.wait_for_function("() => document.getElementById('message').textContent")
    assert page.locator("#message").text_content() == (
        "Took over 2 decisions of decisions.json; 1 are about records that have changed since, "
        "0 about none of these."
    )
    (tmp_path / "other.json").write_text("[]")
    page.set_input_files("#load", tmp_path / "other.json")
    page.wait_for_function("() => document.getElementById('message').className === 'bad'")
    page.wait_for_function("() => document.getElementById('message').textContent[0] === 'o'")
    assert "other.json holds no decisions" in (page.locator("#message").text_content() or "")
    assert counts(page) == "2 of 5 decided: 1 accepted, 0 edited, 1 rejected"


def test_what_the_page_was_made_with_gives_way_to_what_was_decided_since(
    browser: Browser, context: BrowserContext, review: Review, tmp_path: Path
) -> None:
    page = opened(context, review)
    for key in ("a", "a", "a"):
        page.keyboard.press(key)
    earlier = read_decisions(saved(page, tmp_path))
    review.write(review.constructed, decisions=earlier)
    reload(page)
    page.keyboard.press("k")
    page.keyboard.press("u")
    page.keyboard.press("k")
    page.keyboard.press("r")
    assert counts(page) == "2 of 5 decided: 1 accepted, 0 edited, 1 rejected"
    reload(page)
    assert counts(page) == "2 of 5 decided: 1 accepted, 0 edited, 1 rejected"
    with_nothing = browser.new_context()
    fresh = opened(with_nothing, review)
    assert counts(fresh) == "3 of 5 decided: 3 accepted, 0 edited, 0 rejected"
    with_nothing.close()


def test_two_tabs_know_of_each_other(context: BrowserContext, review: Review) -> None:
    page, other = opened(context, review), opened(context, review)
    page.keyboard.press("a")
    other.wait_for_function("() => document.getElementById('counts').textContent[0] === '1'")
    assert other.locator("main .state").text_content() == "accepted"
    page.keyboard.press("k")
    page.keyboard.press("u")
    other.wait_for_function("() => document.getElementById('counts').textContent[0] === '0'")


def test_edits_are_checked_dropped_and_shown(context: BrowserContext, review: Review) -> None:
    page = opened(context, review)
    page.click(".actions .edit")
    page.fill("textarea[name=image_question]", "Who wrote Book 1?")
    warning = page.locator("dd:has(textarea[name=image_question]) .warn")
    assert warning.text_content() == "a question about a picture does not name it"
    page.fill("textarea[name=image_question]", "Who wrote Book 10?")
    assert warning.text_content() == "", "another subject"
    page.fill("textarea[name=answer_new]", "  ")
    page.click(".actions .accept")
    assert page.locator("#message").text_content() == (
        "new answer: a text is needed, or leave the part out."
    )
    assert counts(page) == "0 of 5 decided: 0 accepted, 0 edited, 0 rejected"
    page.keyboard.press("Escape")
    assert page.locator("dd[data-field=answer_new]").text_content() == "Writer 2"
    page.keyboard.press("e")
    page.keyboard.press("Control+Enter")
    assert counts(page) == "1 of 5 decided: 1 accepted, 0 edited, 0 rejected", "nothing was changed"
    page.keyboard.press("e")
    page.fill("textarea[name=answer_new]", "Ann Lee")
    page.keyboard.press("Control+Enter")
    page.keyboard.press("k")
    page.keyboard.press("a")
    page.keyboard.press("k")
    assert counts(page) == "2 of 5 decided: 1 accepted, 1 edited, 0 rejected", "as it is shown"
    changed = page.locator("dd[data-field=answer_new].changed")
    assert (changed.locator("del").text_content(), changed.text_content()) == (
        "Writer 4", "Writer 4Ann Lee",
    )  # fmt: skip


def test_the_list_is_filtered_and_searched(context: BrowserContext, review: Review) -> None:
    page = opened(context, review)
    page.keyboard.press("r")

    def listed() -> list[str]:
        found: list[str] = page.evaluate(
            "() => [...document.querySelectorAll('#list button')].map((b) => b.firstChild.data)"
        )
        return found

    page.select_option("select[name=state]", "lacks")
    assert listed() == ["Person 1", "Person 3"]
    assert (
        "no one_hop_question: the row has no second fact" not in page.locator("main").inner_text()
    )
    page.locator("#list button").first.click()
    assert "no one_hop_question: the row has no second fact" in page.locator("main").inner_text()
    page.select_option("select[name=state]", "reject")
    assert listed() == ["Book 1"]
    page.select_option("select[name=state]", "")
    page.keyboard.press("Escape")
    page.keyboard.press("/")
    page.keyboard.type("TOWN 6")
    assert listed() == ["Book 5"]
    assert page.locator("#shown").text_content() == "1 of 5 records"


@pytest.mark.parametrize(("width", "scheme"), [(400, "dark"), (1280, "light")])
def test_it_can_be_read_and_does_not_scroll_sideways(
    context: BrowserContext, review: Review, width: int, scheme: Any
) -> None:
    page = opened(context, review)
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    page.click("#keys")
    page.keyboard.press("a")
    page.keyboard.press("e")
    page.fill("textarea[name=answer_new]", "Ann Lee")
    for key in ("Control+Enter", "k"):
        page.keyboard.press(key)
        ratio, where = page.evaluate(LOWEST_CONTRAST)
        assert ratio >= AA, f"contrast {ratio:.2f} of {where[:80]}"
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_what_a_page_forgets_is_saved_first(browser: Browser, review: Review) -> None:
    """A browser that keeps nothing says so, and asks before decisions are lost."""
    context = browser.new_context()
    context.add_init_script(
        "Object.defineProperty(window, 'localStorage', { get() { throw new Error('none'); } })"
    )
    page = opened(context, review)
    assert "This browser keeps nothing" in (page.locator("#message").text_content() or "")
    page.keyboard.press("a")
    asked: list[str] = []

    def answer(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", answer)
    page.reload()
    assert asked == ["beforeunload"]
    context.close()
