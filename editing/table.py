"""Answers before and after an edit as a table for the terminal, with the pictures asked about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image
from rich.color import Color
from rich.console import Console, Group
from rich.style import Style
from rich.table import Table
from rich.text import Text

from datamodules.picture_file import read_image
from editing.answer import Answered, Probability
from errors import DataError

_WIDEST = 16  # columns of a small picture; a column is half as wide as it is high
_LEAST = 0.0005  # a probability below it would be shown as 0.0 %


def answers_table(answers: Sequence[Answered], *, pictures: bool) -> Table:
    """One line for each question; under the last title, the probability of whole answers.

    Args:
        answers: at least one.
        pictures: whether they are drawn beside their names.
    """
    shows = any(answer.image for answer in answers)
    table = Table(show_lines=len(answers) > 1)
    table.add_column("question", ratio=2)
    if shows:
        table.add_column("picture")
    table.add_column("unedited")
    table.add_column("edited")
    table.add_column("probability, unedited → edited")
    for answer in answers:
        picture = [_picture(answer.image, drawn=pictures)] if shows else []
        table.add_row(
            Text(answer.question), *picture, Text(answer.unedited), _edited(answer),
            _probabilities(answer.probabilities),
        )  # fmt: skip
    return table


def can_draw(console: Console) -> bool:
    """Whether a terminal shows pictures: in enough colours, and half blocks."""
    return (
        console.is_terminal
        and console.color_system in ("256", "truecolor", "windows")
        and not console.options.ascii_only
    )


def half_blocks(picture: Image.Image, widest: int = _WIDEST) -> Text:
    """A picture of two pixels a character: the upper one as its colour, the lower behind it.

    Args:
        picture: RGB.
        widest: columns, and twice as many pixels in height as lines, at most.
    """
    small = picture.convert("RGB")
    small.thumbnail((widest, widest))
    width, height = small.size
    text = Text(no_wrap=True)
    for y in range(0, height, 2):
        for x in range(width):
            upper = Color.from_rgb(*small.getpixel((x, y)))  # type: ignore[misc]
            lower = Color.from_rgb(*small.getpixel((x, y + 1))) if y + 1 < height else None  # type: ignore[misc]
            text.append("▀", Style(color=upper, bgcolor=lower))
        text.append("\n" if y + 2 < height else "")
    return text


def _picture(path: Path | None, *, drawn: bool) -> Group | Text:
    if path is None:
        return Text("")
    name = Text(path.name)
    if not drawn:
        return name
    try:
        return Group(half_blocks(read_image(path, about=4 * _WIDEST)), name)
    except DataError:  # it was there when it was asked about
        return name


def _edited(answer: Answered) -> Text:
    return Text(answer.text, style="" if answer.text == answer.unedited else "bold")


def _probabilities(probabilities: Sequence[Probability]) -> Table:
    grid = Table.grid(padding=(0, 1))
    for justify in ("left", "right", "left", "right"):
        grid.add_column(justify=justify, no_wrap=justify == "right")
    for each in probabilities:
        grid.add_row(Text(each.answer), percent(each.before), "→", percent(each.after))
    return grid


def percent(probability: float) -> str:
    """A probability in percent.

    >>> percent(0.5), percent(1e-9), percent(0.0)
    ('50.0 %', '<0.1 %', '0.0 %')
    """
    if 0 < probability < _LEAST:
        return "<0.1 %"
    return f"{100 * probability:.1f} %"
