"""A report as one HTML page that holds everything it shows.

The page is opened from disk: style, script, figures and thumbnails are inside it, and its content
security policy forbids all else, also a script that came in with the texts of a result. Jinja
escapes every text.
"""

import base64
import hashlib
import re
from collections import Counter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from PIL import Image

from reporting.blocks import FIGURES, Section
from reporting.formats import ResultTable
from reporting.gallery import CLASS, RANDOM, WORST, CaseGroup, Gallery, percent
from reporting.labels import model_label
from reporting.thumbnails import Thumbnail

_TEMPLATES = Path(__file__).with_name("templates")


def html_page(report: Section, output: Path) -> str:
    """Render the page.

    Args:
        report: what it shows.
        output: folder of the report; its figures are drawn already.

    Returns:
        The page; equal reports and figures give equal pages.

    Raises:
        OSError: a figure is missing.
    """
    script = _read("report.js")
    templates = _page_templates(report, output / FIGURES)
    return templates.get_template("report.html").render(
        report=report,
        style=Markup(_read("report.css")),
        script=Markup(script),
        script_hash=_base64(hashlib.sha256(script.encode()).digest()),
        thumbnails=_thumbnails(report),
    )


def to_html(table: ResultTable) -> str:
    """One `<table class="results">` with its caption, notes in the foot; everything is escaped.

    Classes: `number` on cells of numbers, `best`, `second`, `apart`, `tied` and `floor` on what
    they say, `measured`, `paper` and `difference` on rows. No style is set.
    """
    module: Any = _templates().get_template("table.html").module
    return str(module.results(table))


def grade(fraction: float | None) -> str:
    """The class of a score: all right, all wrong, or between.

    >>> grade(1.0), grade(0.5), grade(0.0), grade(None)
    ('good', 'part', 'bad', 'none')
    """
    if fraction is None:
        return "none"
    return "good" if fraction > 0.995 else "bad" if fraction < 0.005 else "part"


def _templates() -> Environment:
    """Every text is escaped unless it is `Markup`."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _page_templates(report: Section, figures: Path) -> Environment:
    """Templates with what they ask of blocks."""
    environment, anchors = _templates(), _anchors(report)
    environment.filters |= {
        "kind": lambda block: type(block).__name__,
        "anchor": lambda section: anchors[id(section)],
        "source": lambda figure: _data_uri("png", (figures / f"{figure.name}.png").read_bytes()),
        "size": lambda figure: _size(figures / f"{figure.name}.png"),
        "choices": _choices,
        "percent": percent,
        "grade": grade,
        "has": _has,
    }
    return environment


def _read(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{_base64(data)}"


def _size(path: Path) -> tuple[int, int]:
    """Width and height, so that the page does not jump when it is decoded."""
    with Image.open(path) as image:
        return image.size


def _thumbnails(report: Section) -> dict[str, tuple[Thumbnail, str]]:
    """Thumbnails by key, with their data URI: each is once in the page, as a rule of its style."""
    return {
        key: (thumbnail, _data_uri("jpeg", thumbnail.data))
        for block in report.walk()
        if isinstance(block, Gallery)
        for key, thumbnail in block.thumbnails.items()
    }


def _anchors(report: Section) -> dict[int, str]:
    """The id that a section has in the page, by `id` of the section."""
    anchors: dict[int, str] = {}
    uses: Counter[str] = Counter()
    for block in report.walk():
        if isinstance(block, Section):
            slug = re.sub(r"[^a-z0-9]+", "-", block.title.lower()).strip("-") or "section"
            uses[slug] += 1
            anchors[id(block)] = slug if uses[slug] == 1 else f"{slug}-{uses[slug]}"
    return anchors


def _choices(gallery: Gallery) -> dict[str, dict[str, str]]:
    """What the gallery can be filtered by: field -> value -> label."""
    entries = [group.entry for group in gallery.groups]
    cases = [case for group in gallery.groups for case in group.cases]
    answers = [answer for case in cases for answer in case.answers]
    classes = {name for case in cases for name in case.classes}
    picked = {WORST: "worst", RANDOM: "at random"} | ({CLASS: "of a class"} if classes else {})
    return {
        "editor": {entry.key: entry.name for entry in entries},
        "model": {entry.model: model_label(entry.model) for entry in entries},
        "scenario": {entry.scenario: entry.scenario for entry in entries},
        "picked": picked,
        "chain": {name: name for name in sorted(classes)},
        "probe": {answer.probe: answer.probe for answer in answers},
    }


def _has(group: CaseGroup, field: str) -> bool:
    """Whether any answer of a group has a question or a picture: else the column is left out."""
    return any(getattr(a, field) is not None for case in group.cases for a in case.answers)
