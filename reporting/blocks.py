"""What a report consists of, before it is written in any format.

    section > blocks: text, items, a table, a figure, a gallery, or a section below

The report is a section too. `reporting.document` puts it together from these values;
`reporting.markdown` and `reporting.page` write it. Texts are plain: each format escapes them in its
own way, and what is marked is a `Span`.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from reporting.formats import ResultTable
from reporting.gallery import Gallery

FIGURES = "figures"  # folder beside the report that pictures are drawn into

Mark = Literal["plain", "code", "bold", "underlined"]


@dataclass(frozen=True)
class Span:
    """A piece of text in one style."""

    text: str
    mark: Mark = "plain"


Spans = tuple[Span, ...]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    spans: Spans


@dataclass(frozen=True)
class Items:
    """A list, one line each."""

    items: tuple[Spans, ...]


@dataclass(frozen=True)
class Table:
    """A result table.

    Attributes:
        name: of its `tables/<name>.tex` and `.csv`; neither where empty.
    """

    table: ResultTable
    name: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture that is drawn when the report is written.

    Attributes:
        name: of its files in `FIGURES`, without suffix.
        draw: base path without suffix -> the files written.
        alt: says in words what the picture shows.
        caption: stands below it.
        repeats_table: drawn for slides and for the README; the HTML page shows the table itself.
    """

    name: str
    draw: Callable[[Path], Sequence[Path]]
    alt: str
    caption: str = ""
    repeats_table: bool = False


@dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    blocks: "tuple[Block, ...]"

    def walk(self) -> "Iterator[Block]":
        """All blocks from top to bottom, sections before what they hold."""
        for block in self.blocks:
            yield block
            if isinstance(block, Section):
                yield from block.walk()


Block = Text | Items | Table | Figure | Gallery | Section


def text(*parts: str | Span) -> Text:
    """A paragraph of plain strings and marked spans.

    >>> text("seed ", code(3)).spans
    (Span(text='seed ', mark='plain'), Span(text='3', mark='code'))
    """
    return Text(spans(*parts))


def spans(*parts: str | Span) -> Spans:
    """The same as a line of `Items`."""
    return tuple(Span(part) if isinstance(part, str) else part for part in parts)


def code(value: object) -> Span:
    """A value, path or option as it is typed."""
    return Span(str(value), "code")
