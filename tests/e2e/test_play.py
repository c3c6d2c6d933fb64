"""The page to play with, as a visitor sees it: served by its command, opened in a browser."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests.browser import needs_chromium, started_browser
from tests.e2e.commands import ROOT, environment

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.usefixtures("default_place"),
    needs_chromium,
    pytest.mark.skipif(find_spec("streamlit") is None, reason="streamlit is not installed"),
]
PATIENCE = 240_000  # milliseconds; a slow machine is no failure


@pytest.fixture
def address() -> Iterator[str]:
    """Where the command serves the page, for as long as the test runs."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    served = subprocess.Popen(
        [sys.executable, "play.py", "--port", str(port)],
        cwd=ROOT, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert served.stdout is not None
    try:
        for line in served.stdout:
            if "URL: " in line:
                break
        else:
            pytest.fail("the page is not served")
        yield line.split()[-1]
    finally:
        served.terminate()
        served.wait(timeout=60)


def answers(page: Page, question: int = 0) -> tuple[str, str]:
    """What stands as the answer to one of the questions, before and after."""
    row = page.locator("table.answers").nth(question).locator("tr.text td")
    before, after = row.all_inner_texts()
    return before, after


def test_a_fact_is_edited_asked_in_text_and_about_a_picture_and_taken_back(address: str) -> None:
    requests: list[str] = []
    complaints: list[str] = []
    with started_browser() as browser:
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(address, timeout=PATIENCE)

        page.get_by_role("button", name="Edit", exact=True).click()
        new = page.get_by_label("New answer").input_value()
        page.locator("table.answers td.changed").wait_for()
        old, edited = answers(page)
        assert edited == new != old

        page.get_by_label("A question around this fact").click()
        page.get_by_role("option", name="about its picture:").click()
        page.get_by_role("checkbox", name="About the picture", exact=True, checked=True).wait_for()
        page.get_by_role("button", name="Ask", exact=True).click()
        page.locator("table.answers").nth(1).wait_for()
        assert "in the image" in page.locator("table.answers caption").first.inner_text()
        assert answers(page) == (old, new)

        page.get_by_label("New answer").fill(" ")
        page.get_by_role("button", name="Edit", exact=True).click()
        page.get_by_text("a text is needed").wait_for()

        page.get_by_role("button", name="Undo", exact=True).click()
        page.locator("table.answers td.changed").first.wait_for(state="detached")
        page.locator("table.answers").nth(1).wait_for()
        assert [answers(page, number) for number in (0, 1)] == [(old, old)] * 2
    assert {url.split("/")[2] for url in requests} == {address.split("/")[2]}
    assert not complaints
