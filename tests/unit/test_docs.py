"""What the documentation names is there: files, links, commands."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\(([^)#\s]+)(#[^)\s]+)?\)")
FILE = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|yaml))`")
TEST = re.compile(r"(tests/[a-z_0-9/]+\.py)::(test_\w+)")
MODULE = re.compile(r"python -m ([a-z_0-9.]+)")
# Files of an example that the reader is told to write.
EXAMPLES = {"xyz", "jsonl"}


def pages(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for target, anchor in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        path = (page.parent / target).resolve()
        if not path.exists() or (anchor and anchor[1:] not in anchors(path)):
            broken.append(f"{target}{anchor}")
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_files_and_commands_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = [name for name in FILE.findall(text) if "/" in name]
    missing = [
        name
        for name in named
        if not (ROOT / name).is_file() and not EXAMPLES & set(re.split(r"[/._]", name))
    ]
    assert not missing
    assert not [name for name in MODULE.findall(text) if find_spec(name) is None]


@pytest.mark.parametrize("page", PAGES, ids=pages)
def test_tests_that_hold_a_promise_are_there(page: Path) -> None:
    named = TEST.findall(page.read_text(encoding="utf-8"))
    assert named or page.name != "reliability.md"
    missing = [
        f"{file}::{name}"
        for file, name in named
        if not (ROOT / file).is_file() or f"def {name}(" not in (ROOT / file).read_text("utf-8")
    ]
    assert not missing


def test_every_page_is_in_the_index() -> None:
    linked = {target for target, _ in LINK.findall((ROOT / "docs/index.md").read_text())}
    assert {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"} <= linked
