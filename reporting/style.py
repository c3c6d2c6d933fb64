"""How all figures look, and how they are written.

Colours are Okabe and Ito's, which readers with a colour vision deficiency can tell apart; bars also
differ in hatching, lines in dash and marker. No date or program name goes into the files, so equal
inputs give equal bytes.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from results.files import replacing

PALETTE = ("#999999", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")
HATCHES = ("", "//", "..", "\\\\", "xx", "--", "++", "oo")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (7, 3)))
MARKERS = "osD^vPX*"
COLUMN_INCHES = 7.0
DPI = 160

LEGEND_CHARACTERS = 100  # across a figure

STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,
}
_NO_GLYPH = "Glyph .* missing from"  # the letter is drawn as a box, and tables have it
_PADDING = 0.1  # inches around what is drawn


@dataclass(frozen=True)
class Look:
    """How one row is drawn in every figure of bars or lines."""

    colour: str
    hatch: str
    dash: Any
    marker: str


def look(number: int) -> Look:
    """The look of a row by its place; no two of the first 64 are alike.

    >>> look(1) == look(9), look(1).colour == look(9).colour
    (False, True)
    """
    colour, turn = number % len(PALETTE), number // len(PALETTE)
    other = (colour + turn) % len(HATCHES)
    return Look(PALETTE[colour], HATCHES[other], DASHES[other], MARKERS[other])


def drawn_text(text: str) -> str:
    r"""A text as matplotlib draws it: dollars are dollars, and a legend leaves nothing out.

    >>> drawn_text("_a $b$")
    ' _a \\$b\\$'
    """
    escaped = text.replace("$", r"\$")
    return f" {escaped}" if escaped.startswith("_") else escaped


def legend_columns(names: Sequence[str]) -> int:
    """Columns of a legend, as many as there is room for."""
    widest = max(map(len, names), default=0) + 5
    return max(1, min(6, len(names), LEGEND_CHARACTERS // widest))


def save(figure: Figure, base: Path) -> list[Path]:
    """Write a figure as `base`.png and `base`.pdf, without a date in either.

    The layout is made once for both files; it costs more than the drawing.

    Args:
        figure: what to write.
        base: path without suffix; its folder is made if it does not exist.
    """
    figure.set_dpi(DPI)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _NO_GLYPH)
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # every save would make it anew
        box = figure.get_tightbbox(canvas.get_renderer()).padded(_PADDING)
    written = []
    for suffix, metadata in ((".png", {"Software": None}), (".pdf", {"CreationDate": None})):
        path = base.with_name(base.name + suffix)
        with replacing(path) as temporary, warnings.catch_warnings():
            warnings.filterwarnings("ignore", _NO_GLYPH)
            figure.savefig(temporary, dpi=DPI, metadata=metadata, bbox_inches=box)
        written.append(path)
    return written
