"""The before/after table, with and without colours, and pictures as half blocks."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

from PIL import Image
from rich.console import Console

from editing.answer import Answered, Probability
from editing.table import answers_table, can_draw, half_blocks

MARKED = Answered("Who [bold]?", None, "a:star:", "b", (Probability("b", 0.5, 1e-6),))


def shown(console: Console, *answers: Answered) -> str:
    console.print(answers_table(answers, pictures=can_draw(console)))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_a_pipe_gets_a_plain_table_with_the_names_of_pictures(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.new("RGB", (4, 4), (255, 0, 0)).save(path)
    plain = Console(file=StringIO(), width=100)
    text = shown(plain, MARKED, Answered("What?", path, "c", "c", ()))
    assert "\x1b" not in text
    assert "▀" not in text
    for part in ("Who [bold]?", "a:star:", "50.0 % → <0.1 %", "a.png"):
        assert part in text
    assert "picture" not in shown(Console(file=StringIO(), width=100), MARKED)


def test_a_terminal_in_colours_draws_pictures(tmp_path: Path) -> None:
    path, gone = tmp_path / "a.png", tmp_path / "gone.png"
    Image.new("RGB", (40, 20), (255, 0, 0)).save(path)
    answers = [Answered("What?", path, "c", "c", ()), Answered("And?", gone, "c", "c", ())]
    terminal = Console(file=StringIO(), width=100, force_terminal=True, color_system="truecolor")
    text = shown(terminal, *answers)
    assert text.count("▀") == 16 * 4  # 16 columns, two pixels a line
    assert text.index("▀") < text.index("a.png") < text.index("gone.png")
    for console in (
        Console(file=StringIO(), force_terminal=True, color_system=None),
        Console(file=StringIO(), force_terminal=False),
    ):
        assert not can_draw(console)


def test_half_blocks_are_the_pixels() -> None:
    picture = Image.new("RGB", (2, 3))
    for number, (x, y) in enumerate([(x, y) for y in range(3) for x in range(2)]):
        picture.putpixel((x, y), (number, 0, 0))
    text = half_blocks(picture)
    assert text.plain == "▀▀\n▀▀"
    pairs = [(s.style.color, s.style.bgcolor) for s in text.spans if s.style.color]  # type: ignore[union-attr]
    reds = [(c.triplet.red, b and b.triplet.red) for c, b in pairs]  # type: ignore[union-attr]
    assert reds == [(0, 2), (1, 3), (4, None), (5, None)]
